"""The daemon under measurement: a process with a settings file, and its HTTP API over the Unix socket."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

PATIENCE = 60.0
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_STRANGE = ("RECEIPTD_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY", "PYTHONPATH")

_SETTINGS = Template("""
[service]
database = "$database"
listen = [
  {unix = "$folder/$name-send.sock", mode = "0666", scope = "send"},
  {unix = "$folder/$name-api.sock", mode = "0660", scope = "operate"},
]

[submission]
url = "smtp://127.0.0.1:$relay"

[receipts]
address = "$address"
notify = [$notify]

[[mailbox]]
name = "receipts"
url = "$mailbox"
password_file = "password"
folders = ["INBOX"]
$ca_file

[policy.default]
within = "4h"
levels = [{after = "0s", to = ["ops"]}]

[[webhook]]
name = "ops"
url = "$webhook"
secret_file = "webhook"
""")


@dataclass(frozen=True)
class Peers:
    """Where the daemon sends, reads and tells; port 1 and its like are peers that aren't there."""

    relay: int = 1
    mailbox: str = "imap://receipts%40a.test@127.0.0.1:1"
    webhook: str = "http://127.0.0.1:1/"
    address: str = "receipts@a.test"
    ca_file: Path | None = None
    notify: str = '"success", "failure"'


class Daemon:
    """One `receiptd run`; *checkout* is another revision's working tree, None is this one."""

    def __init__(self, folder: Path, database: str, peers: Peers, *, checkout: Path | None, name: str = "a") -> None:
        self.folder, self.name = folder, name
        self._checkout = checkout
        (folder / "webhook").write_text(_SECRET)
        (folder / "password").write_text("correct-horse")
        self.config = folder / f"{name}.toml"
        words = {**vars(peers), "database": database, "folder": folder, "name": name}
        words["ca_file"] = f'ca_file = "{peers.ca_file}"' if peers.ca_file else ""
        self.config.write_text(_SETTINGS.substitute(words))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def python(self, *words: str) -> list[str]:
        """Return the command line of a module of the revision under measurement."""
        own = self._checkout / ".venv" / "bin" / "python" if self._checkout else None
        return [str(own) if own is not None and own.exists() else sys.executable, *words]

    def environment(self) -> dict[str, str]:
        """Return ours without what would speak to another daemon or supervisor."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_STRANGE)}
        ours["CACHE_DIRECTORY"] = str(self.folder)
        return ours | ({"PYTHONPATH": str(self._checkout / "service")} if self._checkout else {})

    def launch(self) -> None:
        """Start it without waiting."""
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *self.python("-m", "receiptd", "run", "--config", str(self.config)),
        ]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def await_up(self) -> None:
        """Return when its API answers."""
        give_up = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError), self.client() as client:
                if client.request("GET", "/healthz")[0] == 200:
                    return
            assert self._process is not None
            ended = self._process.poll()
            assert ended is None, f"the daemon ended with {ended}:\n{self.log()}"
            assert time.monotonic() < give_up, f"the daemon does not answer:\n{self.log()}"
            time.sleep(0.01)

    def start(self) -> None:
        self.launch()
        self.await_up()

    def stop(self, *, kill: bool = False) -> None:
        """End it: by SIGTERM, or at once where it is still at work on what nobody waits for."""
        if self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def log(self) -> str:
        path = self.folder / f"{self.name}.log"
        return path.read_text(encoding="utf-8", errors="replace")[-3000:] if path.exists() else ""

    @property
    def socket(self) -> str:
        return str(self.folder / f"{self.name}-api.sock")

    def client(self, *, keep: bool = True) -> Client:
        return Client(self.socket, keep=keep)

    def post(self, recipients: Sequence[str], **more: Any) -> dict[str, Any]:
        """Hand a message over; return the answer."""
        with self.client() as client:
            status, answer = client.request("POST", "/v1/messages", message(recipients, **more))
        assert status == 202, answer
        shown: dict[str, Any] = json.loads(answer)
        return shown


def message(recipients: Sequence[str], **more: Any) -> bytes:
    """Return the body of a POST of a short letter."""
    text = "Please find below what we agreed on.\n" * 12
    content = {"from": "office@a.test", "to": list(recipients), "subject": "An invoice", "text": text, **more}
    return json.dumps(content).encode()


_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Client:
    """A client of the API that costs next to nothing, so that what is measured is the daemon."""

    def __init__(self, path: str, *, keep: bool = True) -> None:
        self._path, self._keep = path, keep
        self._socket: socket.socket | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body of an answer; OSError where there is none."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(PATIENCE)
            self._socket.connect(self._path)
        ends = "" if self._keep else "Connection: close\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{ends}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._socket.sendall(f"{head}\r\n".encode() + body)
        answer = self._answer()
        if not self._keep:
            self.close()
        return answer

    def _answer(self) -> tuple[int, bytes]:
        assert self._socket is not None
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._some()
        head, _, content = received.partition(b"\r\n\r\n")
        declared = _LENGTH.search(head)
        length = int(declared[1]) if declared else 0
        while len(content) < length:
            content += self._some()
        return int(head.split()[1]), content

    def _some(self) -> bytes:
        assert self._socket is not None
        some = self._socket.recv(65536)
        if not some:
            self.close()
            raise ConnectionResetError("the daemon closed the connection")
        return some
