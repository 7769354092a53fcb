"""The mail world: a sender's relay and receipts mailbox, and recipients of every fate."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import trustme

from tests.servers.greylist import Greylist
from tests.servers.imap_programs import COURIER, CYRUS, IMAP4D
from tests.servers.packages import unpack
from tests.servers.ports import Ports
from tests.servers.programs import DOVECOT, EXIM, OPENSMTPD, POSTFIX, VMAIL
from tests.servers.run_folder import RunFolder
from tests.servers.server import Program, Server

HOST = "127.0.0.1"
PASSWORD = "correct-horse"
TOKEN_KEY = b"a key for access tokens, 32 bytes"

_RELAY = ("submission", "submissions", "smtp", "smtp_nodsn", "smtp_ascii")
_PORTS = (
    *(*_RELAY, "imap", "imaps"),
    *("mx", "b", "b_imap", "box", "nodsn", "exim", "osmtpd", "greylist"),
    *("cyrus", "courier", "imap4d"),
)


@dataclass(frozen=True)
class Relay:
    """The submission server of a.test: Postfix with STARTTLS and AUTH, the same with TLS, and three plain ports."""

    submission: int
    submissions: int
    smtp: int
    smtp_nodsn: int
    smtp_ascii: int

    def url(self, user: str) -> str:
        """STARTTLS required, then AUTH."""
        return f"submission://{quote(user, safe='')}@{HOST}:{self.submission}"

    def tls_url(self, user: str) -> str:
        return f"submissions://{quote(user, safe='')}@{HOST}:{self.submissions}"

    @property
    def plain_url(self) -> str:
        return f"smtp://{HOST}:{self.smtp}"

    @property
    def plain_url_without_dsn(self) -> str:
        return f"smtp://{HOST}:{self.smtp_nodsn}"

    @property
    def plain_url_without_smtputf8(self) -> str:
        return f"smtp://{HOST}:{self.smtp_ascii}"


@dataclass(frozen=True)
class Imap:
    """Where mailboxes are read: Dovecot, with TLS and with STARTTLS."""

    imaps: int
    imap: int

    def url(self, user: str) -> str:
        return f"imaps://{quote(user, safe='')}@{HOST}:{self.imaps}"

    def starttls_url(self, user: str) -> str:
        return f"imap+starttls://{quote(user, safe='')}@{HOST}:{self.imap}"


class World:
    """Everything runs from `start` to `close`, on ports and in a folder of its own.

    Servers, by name (`world["mailbox"].stop()`):

    * `relay`: the submission server of a.test (Postfix); `sasl`: its password check (Dovecot)
    * `mx` and `mailbox`: the mail exchanger of a.test (Postfix) and its mailboxes (Dovecot): `receipts@a.test`, and a
      fresh one for each `new_receipts_address`; reports about spammy@box.test land in Junk
    * `b` and `b-mailbox`: b.test, Postfix handing to Dovecot: "relayed"; users alice, bob, carol; full (552),
      brimful (452 for now), reject (Sieve), vacation (Sieve); alias late (after2@later.test)
    * `box`: box.test, a Postfix with mailboxes: "delivered"; alice, bob, jürgen, picky (refused after DATA), spammy;
      aliases team (alice@box.test, bob@b.test), forward (bob@b.test), mixed (one branch fails), waiting (expires).
      Also bücher.test (bob), nodsn.test (no DSN in EHLO; bob, and gone, an alias that fails), catchall.test,
      alias.test (each address an alias), silent.test (250 and gone),
      later.test (`after2@` is taken after two seconds, `never@` never)
    * `exim` and `osmtpd`: exim.test and osmtpd.test; users alice, bob; redirects gone (to an unknown user),
      waiting (to never@later.test until it expires), forward (bob@b.test); at exim.test also late (after2@later.test)
      and team (alice, bob@b.test), at osmtpd.test also pair (alice, bob@b.test) and torn (alice, never@later.test).
      What comes to gate.exim.test and gate.osmtpd.test they hand on to a server without DSN
    * `cyrus`, `courier` and `imap4d`: other IMAP servers, started when they are first asked for (`imap_server`);
      nothing is delivered to them

    The relay itself refuses forbidden@b.test (550 to RCPT), busy@b.test (450 to RCPT), unwanted@b.test (554 after
    DATA), and what is over 2 MB. down.test never answers, and any other domain does not exist.
    """

    def __init__(self) -> None:
        self._folder = RunFolder()
        self.root = self._folder.path
        self._ports = Ports(_PORTS)
        port = self._ports
        self.password = PASSWORD
        self.authority = trustme.CA()
        self.ca_file = self.root / "ca.pem"
        self.relay = Relay(*(port[name] for name in _RELAY))
        self.imap = Imap(port["imaps"], port["imap"])
        self.b_imap = port["b_imap"]
        self.port_of = {name: port[name] for name in ("mx", "b", "box", "nodsn", "exim", "osmtpd")}
        self._numbers = itertools.count(1)
        self._values: dict[str, object] = {"password": PASSWORD, "token_key": base64.b64encode(TOKEN_KEY).decode()}
        self._values |= {f"port_{name}": number for name, number in port.items().items()}
        sockets = self.root / "sockets"
        self.servers: dict[str, Server] = {}
        self._add("sasl", DOVECOT, sockets / "sasl")
        self._add("mailbox", DOVECOT, port["imap"], port["imaps"], sockets / "a-lmtp")
        self._add("b-mailbox", DOVECOT, port["b_imap"], sockets / "b-lmtp")
        self._add("relay", POSTFIX, *(port[name] for name in _RELAY))
        self._add("mx", POSTFIX, port["mx"])
        self._add("b", POSTFIX, port["b"])
        self._add("box", POSTFIX, port["box"], port["nodsn"])
        self._add("exim", EXIM, port["exim"])
        self._add("osmtpd", OPENSMTPD, port["osmtpd"])
        self._beside = {"cyrus": CYRUS, "courier": COURIER, "imap4d": IMAP4D}

    def __getitem__(self, name: str) -> Server:
        return self.servers[name]

    def start(self) -> None:
        """Start every server at once and return when all answer."""
        certificate = self.authority.issue_cert(HOST, "localhost", "relay.a.test", "mail.a.test", "mail.b.test")
        self.authority.cert_pem.write_to_path(self.ca_file)
        certificate.private_key_and_cert_chain_pem.write_to_path(self.root / "server.pem")
        (self.root / "sockets").mkdir()
        (self.root / "mail").mkdir()
        os.chown(self.root / "mail", VMAIL, VMAIL)
        self.greylist = Greylist(self._ports["greylist"])
        for server in self.servers.values():
            server.launch()
        for server in self.servers.values():
            server.await_up()

    def imap_server(self, name: str) -> tuple[Server, int]:
        """Return one of the IMAP servers that few tests need, started if it isn't yet, and its port."""
        port = self._ports[name]
        if name not in self.servers:
            self._add(name, self._beside[name], port)
            self.servers[name].start()
        return self.servers[name], port

    def close(self) -> None:
        for server in self.servers.values():
            server.kill()
        for server in self.servers.values():
            server.stop()
        self.greylist.close()
        self.remove()

    def remove(self) -> None:
        """Give up the folder and the ports of a world that was never started, or is closed."""
        self._ports.release()
        self._folder.close()

    def new_receipts_address(self) -> str:
        """Return an address of a.test with an empty mailbox that no other test uses.

        What comes to its `+` and `-` addresses lands there too, and so does TOKEN@receiptsN.a.test.
        """
        return f"receipts{next(self._numbers)}@a.test"

    def access_token(self, user: str, lifetime: float = 3600) -> str:
        """Return an OAuth 2 access token that relay and mailbox take for *user* for so many seconds (XOAUTH2)."""
        now = int(time.time())
        claims = {"sub": user, "email": user, "iat": now - 60, "exp": now + int(lifetime)}
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return (signed + b"." + _base64url(hmac.digest(TOKEN_KEY, signed, hashlib.sha256))).decode()

    def messages_of(self, address: str, folder: str = "INBOX") -> list[bytes]:
        """Return what lies in a mailbox of any of these domains, oldest first, as it lies on the disk."""
        user, _, domain = address.partition("@")
        maildir = self.root / "mail" / domain / user / "Maildir" / ("" if folder == "INBOX" else f".{folder}")
        files = [*maildir.glob("new/*"), *maildir.glob("cur/*")]
        return [file.read_bytes() for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]

    def await_message(
        self, address: str, matching: Callable[[bytes], bool], *, folder: str = "INBOX", within: float = 60
    ) -> bytes:
        """Return the first message of a mailbox that is *matching*, as soon as it is there.

        :raises AssertionError: if none comes within so many seconds
        """
        give_up = time.monotonic() + within
        while True:
            found = [message for message in self.messages_of(address, folder) if matching(message)]
            if found:
                return found[0]
            assert time.monotonic() < give_up, f"no such message for {address} in {folder} within {within} s"
            time.sleep(0.02)

    def logs(self) -> dict[str, str]:
        return {name: server.log() for name, server in self.servers.items()}

    def _add(self, name: str, program: Program, *listens: int | Path) -> None:
        package = unpack(*program.packages)
        self.servers[name] = Server(name, program, package, self.root, listens, self._values)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
