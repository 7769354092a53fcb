"""No free file descriptor: logged once, and once more when there are free ones again."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from typing import Any

import structlog

_log = structlog.get_logger(__name__)

_SHORT = frozenset({errno.EMFILE, errno.ENFILE})
_LOOK_SECONDS = 5.0


class Shortage:
    """What the event loop can't handle: a shortage of descriptors is told once, all else as it always is."""

    def __init__(self) -> None:
        self._is_told = False

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Be the loop's exception handler."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _SHORT:
            loop.default_exception_handler(context)
        elif not self._is_told:
            self._is_told = True
            _log.error(
                "no file descriptor is free, so nobody new is answered: see who holds so many connections, or raise "
                "the limit (LimitNOFILE= in the unit, ulimit -n)",
                limit=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )
            loop.call_later(_LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            loop.call_later(_LOOK_SECONDS, self._look, loop)
        else:
            self._is_told = False
            _log.info("file descriptors are free again")
