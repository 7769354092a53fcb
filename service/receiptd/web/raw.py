"""Raw mail: as text that no browser runs."""

from __future__ import annotations

from starlette.responses import Response

RAW = {
    "Content-Disposition": "It is an attachment.",
    "X-Content-Type-Options": "No browser shall find another type in it.",
    "Content-Security-Policy": "No browser shall run it.",
}


def mail(content: bytes, name: str, **further: str) -> Response:
    """Serve raw mail so that no browser runs what an untrusted sender wrote."""
    headers = {
        "content-disposition": f'attachment; filename="{name}"',
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return Response(content, media_type="text/plain", headers=headers | further)
