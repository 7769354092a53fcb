"""Loopback ports that no other test run and no server of the machine uses."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from contextlib import closing

# Below the range from which the kernel takes client ports, so that no outgoing connection takes one in between.
_FIRST, _LAST = 12_000, 32_000


class Ports:
    """One free port for each of *names*, held until `release`.

    Postfix listens with SO_REUSEPORT: a second one on the same port starts without an error and takes
    half of the connections. Hence a claim that other runs see: a socket in the abstract namespace,
    which the kernel drops when its process dies, however it dies.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._claims: list[socket.socket] = []
        self._ports: dict[str, int] = {}
        candidates = iter(random.sample(range(_FIRST, _LAST), k=_LAST - _FIRST))
        for name in names:
            self._ports[name] = next(port for port in candidates if self._claim(port))

    def __getitem__(self, name: str) -> int:
        return self._ports[name]

    def items(self) -> dict[str, int]:
        return dict(self._ports)

    def release(self) -> None:
        for claim in self._claims:
            claim.close()

    def _claim(self, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0receiptd-tests-port-{port}")
            with closing(socket.socket()) as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True
