"""The log writer: a thread of its own writes the log, so that a reader who is slow blocks nothing."""

from __future__ import annotations

import logging
import os
import queue
import select
import threading

_MAX_LINES = 10_000
"""Lines that wait for a reader; what comes then is counted."""
_CLOSING_SECONDS = 2.0


class LogWriter:
    """Lines on their way to a descriptor that may block for as long as it likes."""

    def __init__(self, descriptor: int, *, most: int = _MAX_LINES) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(most)
        self._missing = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Let *text* be written in its turn; where too much waits already, it is only counted."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self._missing += 1

    def close(self, seconds: float = _CLOSING_SECONDS) -> None:
        """Wait until all is written, at most so long."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _run(self) -> None:
        while (text := self._lines.get()) is not None:
            if self._missing:
                missing, self._missing = self._missing, 0
                text += f"{missing} lines of this log were not written: nobody read it\n"
            self._write(text.encode(errors="replace"))

    def _write(self, octets: bytes) -> None:
        while octets:
            try:
                octets = octets[os.write(self._descriptor, octets) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                return  # nobody will read it any more


class LogHandler(logging.Handler):
    """Hands every record over to a log writer."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Format *record* and let it be written."""
        try:
            self._writer.write(self.format(record) + "\n")
        except Exception:  # as all of logging's do: a record that can't be formatted ends nothing
            self.handleError(record)

    def close(self) -> None:
        """Wait a moment for what isn't written yet."""
        self._writer.close()
        super().close()
