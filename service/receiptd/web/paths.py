"""Paths with ids in them, whatever characters an id brings."""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = re.compile("%2f", re.IGNORECASE)


class EscapedSlashes:
    """Leaves a slash that a client escaped in its id: decoded before routing, `ID%2Fraw` would be another call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Route by the path as it was sent."""
        raw = scope.get("raw_path", b"").decode("latin-1")
        if _SLASH.search(raw):
            scope = {**scope, "path": unquote(_SLASH.sub("%252F", raw))}
        await self._app(scope, receive, send)
