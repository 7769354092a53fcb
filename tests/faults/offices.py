"""Offices for faults: their daemon starts in a moment, and its peers are fakes or the real servers."""

from __future__ import annotations

import http.client
import json
import socket
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiptd import client
from tests.acceptance.offices import SETTINGS as REAL_SETTINGS
from tests.faults.nursery import Child, Nursery
from tests.faults.peers import Peers
from tests.office import Json, Office
from tests.servers.world import World


@dataclass(frozen=True)
class Ended:
    """A command that is over: its exit status and all it said."""

    status: int
    said: str


class FaultyOffice(Office):
    """An office whose daemon is started often."""

    def __init__(self, nursery: Nursery, settings: str, secrets: dict[str, str]) -> None:
        super().__init__(settings, secrets)
        self._nursery = nursery
        self.child: Child | None = None

    def start(self, *, ready: str = "/healthz", within: float = 20) -> None:
        self.launch()
        self.await_up(ready=ready, within=within)

    def launch(self) -> Child:
        """Start the daemon without waiting."""
        self.child = self._nursery.start(["run", "--config", str(self.config)], self.folder / "daemon.log")
        return self.child

    def await_up(self, *, ready: str = "/healthz", within: float = 20) -> None:
        """Return when the daemon answers at *ready*."""
        assert self.child is not None
        give_up = time.monotonic() + within
        while not self._answers(ready):
            assert self.child.poll() is None, f"the daemon ended with {self.child.returncode}:\n{self.log}"
            assert time.monotonic() < give_up, f"the daemon isn't ready within {within} s:\n{self.log}"
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> int:
        assert self.child is not None
        if kill:
            self.child.kill()
        else:
            self.child.terminate()
        status = self.child.wait(40)
        self.child = None
        return status

    def close(self) -> None:
        if self.child is not None:
            self.stop(kill=True)
        super().close()

    def run(self, *words: str, config: Path | None = None) -> Ended:
        """Run a command to its end."""
        output = self.folder / "output"
        output.unlink(missing_ok=True)
        child = self._nursery.start([*words, "--config", str(config or self.config)], output)
        return Ended(child.wait(20), output.read_text())

    def post(self, *recipients: str, key: str | None = None, **more: Any) -> str:
        """Hand a letter over as send-with-receipt does; return its id."""
        body = {"from": "office@a.test", "to": recipients, "subject": "An invoice", "text": "Good day.\n", **more}
        headers = {"Idempotency-Key": key} if key else None
        answer: Json = self.daemon.post(client.path("messages"), body, headers=headers)
        return str(answer["id"])

    def ready(self) -> dict[str, Json]:
        """Return what /readyz says, by the name of the check."""
        shown = json.loads(self._look("/readyz"))
        return {check["name"]: check for check in shown["checks"]}

    def figure(self, name: str) -> float:
        """Return what /metrics says of a figure, by its name with its labels; 0 where it says nothing."""
        lines = (line.split() for line in self._look("/metrics").splitlines())
        return next((float(words[1]) for words in lines if words and words[0] == name), 0.0)

    def await_figure(self, name: str, least: float, *, within: float = 20) -> None:
        """Return when a figure of /metrics is at least so much."""
        give_up = time.monotonic() + within
        while self.figure(name) < least:
            assert time.monotonic() < give_up, f"{name} is {self.figure(name)} after {within} s:\n{self.log}"
            time.sleep(0.05)

    @property
    def receipts_address(self) -> str:
        address: str = tomllib.loads(self.config.read_text())["receipts"]["address"]
        return address

    def _look(self, path: str) -> str:
        """Return what api.sock answers, whatever the status."""
        link = http.client.HTTPConnection("localhost", timeout=10)
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect(str(self.folder / "api.sock"))
        try:
            link.request("GET", path)
            return link.getresponse().read().decode()
        finally:
            link.close()


@contextmanager
def _opened(office: FaultyOffice, *, start: bool) -> Iterator[FaultyOffice]:
    try:
        if start:
            office.start()
        yield office
    finally:
        office.close()


@contextmanager
def office_with(
    nursery: Nursery, peers: Peers, *, service: str = "", submission: str = "", start: bool = True
) -> Iterator[FaultyOffice]:
    """Open an office on fake *peers*; the arguments are further lines of its settings."""
    settings = peers.settings(service=service, submission=submission)
    with _opened(FaultyOffice(nursery, settings, {"password": "sesame"}), start=start) as office:
        yield office


@contextmanager
def office_in(
    nursery: Nursery, world: World, *, relay_password: str | None = None, box_password: str | None = None, box: str = ""
) -> Iterator[FaultyOffice]:
    """Open an office on the real servers, perhaps with a wrong password for one of them."""
    address = world.new_receipts_address()
    settings = REAL_SETTINGS.replace('password_file = "password"', 'password_file = "relay"', 1)
    for word, value in {
        "RELAY": world.relay.url(address),
        "MAILBOX": world.imap.url(address),
        "ADDRESS": address,
        "CA": str(world.ca_file),
        "SUBMISSION": "",
        "RECEIPTS": "",
        "BOX": box,
    }.items():
        settings = settings.replace(word, value)
    secrets = {"relay": relay_password or world.password, "password": box_password or world.password}
    with _opened(FaultyOffice(nursery, settings, secrets), start=True) as office:
        yield office
