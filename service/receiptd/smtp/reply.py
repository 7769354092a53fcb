"""A server's replies and capabilities, and the dialogue kept as evidence."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_LONGEST_DIALOGUE = 2000
_LONGEST_LINE = 400


def printable(text: str) -> str:
    """Return a server's *text* without control characters and undecodable octets; line feeds stay."""
    return _CONTROL.sub("?", text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply of the server; the lines of *text* are joined by line feeds (RFC 5321 §4.2)."""

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code in front of the text, `5.1.1` (RFC 2034), or None."""
        found = _ENHANCED.match(self.text)
        return found.group() if found else None

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    @property
    def is_about_size(self) -> bool:
        """Whether the message is refused as too big (RFC 1870 §6.1, RFC 3463 X.3.4)."""
        if self.enhanced in {"5.3.4", "4.3.4"}:
            return True
        return self.code == 552 and self.enhanced in {None, "5.2.3"}

    def __str__(self) -> str:
        return f"{self.code} {self.text}".replace("\n", " ").strip()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a connection's last EHLO, and its TLS.

    *size* is None where SIZE isn't offered and 0 where it names no limit (RFC 1870 §4); *tls* is the
    protocol's version, None in the clear.
    """

    dsn: bool = False
    smtputf8: bool = False
    eightbitmime: bool = False
    pipelining: bool = False
    size: int | None = None
    tls: str | None = None
    banner: str = ""
    lines: tuple[str, ...] = ()


def read_capabilities(ehlo: str, *, banner: str, tls: str | None) -> Capabilities:
    """Return the capabilities in the text of an EHLO reply; its first line only greets (RFC 5321 §4.1.1.1)."""
    lines = tuple(line.strip() for line in printable(ehlo).split("\n"))
    offered = {}
    for line in lines[1:]:
        keyword, _, parameters = line.partition(" ")
        offered[keyword.upper()] = parameters.strip()
    size = offered.get("SIZE")
    return Capabilities(
        dsn="DSN" in offered,
        smtputf8="SMTPUTF8" in offered,
        eightbitmime="8BITMIME" in offered,
        pipelining="PIPELINING" in offered,
        size=None if size is None else int(size) if size.isascii() and size.isdigit() else 0,
        tls=tls,
        banner=printable(banner),
        lines=lines,
    )


class Dialogue:
    """The lines of one transaction as sent and received, without content and secrets.

    *opening* is how the connection began (banner, TLS, capabilities). It is the first to be cut
    when the text would exceed 2 kB: the last reply carries the relay's queue id.
    """

    def __init__(self, opening: str = "") -> None:
        self._opening = opening
        self._lines: list[str] = []

    def client(self, line: str) -> None:
        """Add a command of ours."""
        self._lines.append(f"C: {line}"[:_LONGEST_LINE])

    def server(self, reply: Reply) -> None:
        """Add a reply, each of its lines."""
        *others, last = reply.text.split("\n")
        self._lines += [f"S: {reply.code}-{line}"[:_LONGEST_LINE] for line in others]
        self._lines.append(f"S: {reply.code} {last}".rstrip()[:_LONGEST_LINE])

    def note(self, text: str) -> None:
        """Add a remark: the omitted content, an end without a reply."""
        self._lines.append(f"({text})"[:_LONGEST_LINE])

    def text(self) -> str:
        """Return the dialogue in at most 2 kB of UTF-8."""
        opening = self._opening.encode()
        lines = "\n".join(self._lines).encode()
        room = _LONGEST_DIALOGUE - len(lines) - 1
        if len(opening) > room:
            opening = opening[: max(0, room - 4)] + "…".encode() if room > 80 else b""
        if len(lines) > _LONGEST_DIALOGUE:
            kept = _LONGEST_DIALOGUE // 2 - 3
            lines = lines[:kept] + "\n…\n".encode() + lines[-kept:]
        return b"\n".join(part for part in (opening, lines) if part).decode("utf-8", "ignore")

    def __str__(self) -> str:
        return self.text()


_SES_HOST = re.compile(
    r"(?:.*\.)?email-smtp(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?", re.IGNORECASE
)
_SES_ID = re.compile(r"Ok ([0-9a-z-]{30,100})", re.IGNORECASE)
_MICROSOFT_ID = re.compile(r"2\.6\.0 (<[^<>\s@]{1,200}@[^<>\s@]{1,200}>) \[InternalId=", re.IGNORECASE)


def replaces_return_path(host: str) -> bool:
    """Whether the relay *host* is known to replace every return path with its own: Amazon SES does."""
    return _SES_HOST.fullmatch(host) is not None


def alias_message_id(reply: Reply, host: str) -> str | None:
    """Return the new Message-ID that the relay *host* gives the message, if its 250 names one.

    Amazon SES names the local part only; the domain is the region's, `email` for us-east-1, the oldest.
    Microsoft 365 names the whole id. Gmail doesn't say.
    """
    region, name = _SES_HOST.fullmatch(host), _SES_ID.match(reply.text)
    if region and name:
        area = region[1].lower()
        return f"<{name[1]}@{'email' if area == 'us-east-1' else area}.amazonses.com>"
    microsoft = _MICROSOFT_ID.match(reply.text)
    return microsoft[1] if microsoft else None
