"""A greylisting policy service for Postfix: later.test takes a letter only when it has waited."""

from __future__ import annotations

import re
import socketserver
import threading
import time

_TEMPORARY = "action=451 4.7.1 Greylisted, come back later\n\n"


class Greylist:
    """Answers Postfix's policy requests (SMTPD_POLICY_README) from a thread.

    `after3@later.test` is taken three seconds after it was first offered for that sender; `never@later.test` never.
    """

    def __init__(self, port: int) -> None:
        self._first_offered: dict[tuple[str, str], float] = {}
        greylist = self

        class Conversation(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                request: dict[str, str] = {}
                for line in self.rfile:
                    name, _, value = line.decode("utf-8", "replace").rstrip("\n").partition("=")
                    if name:
                        request[name] = value
                        continue
                    self.wfile.write(greylist.answer(request["sender"], request["recipient"]).encode())
                    request.clear()

        self._server = _Server(("127.0.0.1", port), Conversation)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True, name="greylist").start()

    def answer(self, sender: str, recipient: str) -> str:
        wait = re.match(r"after([0-9.]+)@", recipient)
        first = self._first_offered.setdefault((sender, recipient), time.monotonic())
        if wait and time.monotonic() >= first + float(wait[1]):
            return "action=DUNNO\n\n"
        return _TEMPORARY

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
