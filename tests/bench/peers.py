"""The servers beside the daemon: smtp-sink and smtp-source of Postfix, a Postfix with its queue, a Dovecot."""

from __future__ import annotations

import base64
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import trustme

from tests.servers.packages import unpack
from tests.servers.programs import DOVECOT, POSTFIX, VMAIL
from tests.servers.server import Server

PASSWORD = "correct-horse"
RECEIPTS = "receipts@a.test"
# smtp-sink changes its user and so loses the parent-death signal; the shell keeps it, as process 1 of the namespace.
_DYING_WITH_US = (
    *("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child=KILL", "--"),
    *("sh", "-c", '"$@" & wait', "smtp-sink"),
)


class PostfixTools:
    """smtp-source and smtp-sink, run from the unpacked package."""

    def __init__(self) -> None:
        package = unpack(*POSTFIX.packages)
        libraries = f"{package}/usr/lib/postfix:{package}/usr/lib/{os.uname().machine}-linux-gnu"
        self._folder = package / "usr" / "sbin"
        self._environ = {"LD_LIBRARY_PATH": libraries, "PATH": "/usr/bin:/bin", "LC_ALL": "C"}

    def source(self, port: int, messages: int, *, sessions: int = 10, length: int = 500) -> float:
        """Send *messages* as smtp-source does; return how many a second went."""
        words = ["-s", str(sessions), "-m", str(messages), "-l", str(length), "-f", "a@a.test", "-t", "b@b.test"]
        began = time.perf_counter()
        command = [str(self._folder / "smtp-source"), *words, f"127.0.0.1:{port}"]
        done = subprocess.run(command, env=self._environ, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return messages / (time.perf_counter() - began)

    def sink(self, port: int, output: Path) -> Sink:
        """Start smtp-sink."""
        command = [*_DYING_WITH_US, str(self._folder / "smtp-sink"), "-c", "-u", "nobody", f"127.0.0.1:{port}", "1000"]
        with output.open("wb") as file:
            process = subprocess.Popen(command, env=self._environ, stdout=file, stderr=file)
        _await_answer(port)
        return Sink(port, process, output)


def _await_answer(port: int) -> None:
    give_up = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < give_up, "smtp-sink does not start"
        time.sleep(0.01)


@dataclass
class Sink:
    """A running smtp-sink: it takes all and keeps nothing, but counts."""

    port: int
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def taken(self) -> int:
        """How many messages it has taken so far."""
        tail = self.output.read_bytes()[-400:].decode("ascii", "replace")
        counts = re.findall(r"mesg=(\d+)", tail)
        return int(counts[-1]) if counts else 0

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Postfix:
    """A relay with a queue on disk; delivery is to nobody (discard)."""

    def __init__(self, root: Path, port: int) -> None:
        self.port = port
        package = unpack(*POSTFIX.packages)
        self._server = Server("bench-postfix", POSTFIX, package, root, (port,), {"port_postfix": port})
        self._server.start()

    def await_empty(self, within: float = 120) -> None:
        """Return when its queue is empty; what waits there would slow down whoever comes next."""
        queue = self._server.here / "spool" / "postfix"
        give_up = time.monotonic() + within
        while any(next((queue / name).rglob("[0-9A-Za-z]*"), None) for name in ("incoming", "active")):
            assert time.monotonic() < give_up, "Postfix does not empty its queue"
            time.sleep(0.1)

    def close(self) -> None:
        self._server.stop()


class Dovecot:
    """The mailbox that reports come to: files that lie in its Maildir before, or while, the daemon runs."""

    def __init__(self, root: Path, imap: int, imaps: int) -> None:
        self.ca_file = root / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        certificate = authority.issue_cert("127.0.0.1", "localhost", "mail.a.test")
        certificate.private_key_and_cert_chain_pem.write_to_path(root / "server.pem")
        (root / "sockets").mkdir(exist_ok=True)
        self._mail = root / "mail"
        self._mail.mkdir(exist_ok=True)
        os.chown(self._mail, VMAIL, VMAIL)
        self._number = 0
        self.imap, self.imaps = imap, imaps
        key = base64.b64encode(b"a key for access tokens, 32 bytes").decode()
        values = {"password": PASSWORD, "token_key": key, "port_imap": imap, "port_imaps": imaps}
        package = unpack(*DOVECOT.packages)
        self._server = Server("mailbox", DOVECOT, package, root, (imap, imaps), values)
        self._server.start()

    def new_address(self) -> str:
        """Return an address with a mailbox that is empty."""
        self._number += 1
        return f"receipts{self._number}@a.test"

    def url(self, address: str) -> str:
        return f"imaps://{quote(address, safe='')}@127.0.0.1:{self.imaps}"

    def put(self, address: str, contents: Iterable[bytes]) -> None:
        """Lay messages into a mailbox, as its delivery does: written aside, then moved into `new`."""
        user, _, domain = address.partition("@")
        maildir = self._mail / domain / user / "Maildir"
        if not maildir.exists():
            for folder in (
                maildir.parent.parent,
                maildir.parent,
                maildir,
                *(maildir / n for n in ("new", "cur", "tmp")),
            ):
                folder.mkdir(exist_ok=True)
                os.chown(folder, VMAIL, VMAIL)
        for content in contents:
            self._number += 1
            name = f"{int(time.time())}.M{time.time_ns() // 1000 % 10**6:06d}P{os.getpid()}Q{self._number}.bench"
            written = maildir / "tmp" / name
            written.write_bytes(content)
            os.chown(written, VMAIL, VMAIL)
            written.rename(maildir / "new" / name)

    def close(self) -> None:
        self._server.stop()


@dataclass
class WebhookReceiver:
    """Takes every webhook and notes when it came and about which address."""

    came: dict[str, float] = field(default_factory=dict)
    posts: int = 0

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                at = time.monotonic()
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                self.send_response(204)
                self.end_headers()
                receiver.posts += 1
                for address in re.findall(r'"address": ?"([^"]+)"', body):
                    receiver.came.setdefault(address, at)

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Be quiet: the daemon was killed, as each is in the end."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
