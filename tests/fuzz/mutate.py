"""One message made of others: cut, repeated, crossed, and strewn with the words that readers look for."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

SPECIAL = (
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\x1b$B", b"\r", b"\r\n", b"\n\n", b"\n ", b"\n--", b"--",
    b"=", b"=\n", b"=00", b"=?utf-7?q?+2AA-?=", b"=?utf-8?b?AA==?=", b"=?", b"?=", b"+00", b"+2B", b"+AAA-", b"+2AA-",
    b"\\u0000", b'"\\ud800"', b"\\x{0}", b"\\x{D800}", b"&#0;", b"&#xD800;", b"(", b")", b"<", b">", b"<>", b'"',
    b"\\", b"@", b":", b";", b",", b"{", b"[", b"]", b"}", b"*", b"%", b"99999999999999999999", b"-1", b"0000",
    b"a@b.c", b"rfc822; a@b.c", b"550 5.1.1", b"4.4.7", b"charset=utf-7", b"charset=utf-16", b"charset=iso-2022-jp",
    b'boundary="b"', b"\n--b\n", b"\n--b--\n", b"\nContent-Transfer-Encoding: base64\n",
    b"\nContent-Transfer-Encoding: quoted-printable\n", b"\nContent-Type: text/html; charset=utf-16\n\n",
    b"\nContent-Type: message/delivery-status\n\n", b"\nContent-Type: message/rfc822\n\n",
    b"\nContent-Type: multipart/mixed; boundary=b\n\n--b\n", b"Mon, 31 Dec 9999 23:59:59 -2359",
    b"Thu, 01 Jan 0001 00:00:00 +2359", b"9999-12-31T23:59:59-23:59",
)  # fmt: skip
LONGEST = 4 * 1024


class Mutator:
    """Draws mutations with *random*, out of *words* and of the *corpus* that goes on growing meanwhile."""

    def __init__(self, random: Random, corpus: Sequence[bytes], words: Sequence[bytes]) -> None:
        self._random, self._corpus, self._words = random, corpus, words
        self._changes = (
            self._cut, self._repeat, self._strew, self._strew, self._noise, self._move_line, self._borrow, self._borrow,
            self._cross, self._overwrite,
        )  # fmt: skip

    def mutated(self, raw: bytes) -> bytes:
        """Return *raw* after a few changes."""
        for _ in range(1 << self._random.randrange(5)):
            raw = self._random.choice(self._changes)(raw)[:LONGEST]
        return raw

    def grown(self, raw: bytes, size: int) -> bytes:
        """Return *raw* with one or two pieces of it repeated until it has about *size* bytes."""
        for _ in range(pieces := self._random.randint(1, 2)):
            start, end = self._piece(raw)
            piece = (raw[start:end] or b"x")[:1000]
            raw = raw[:start] + piece * (size // pieces // len(piece)) + raw[start:]
        return raw

    def _piece(self, raw: bytes) -> tuple[int, int]:
        """Return the extent of some bytes, or of whole lines."""
        start = self._random.randint(0, len(raw))
        end = min(len(raw), start + int(2 ** self._random.uniform(0, 9)))
        if self._random.random() < 0.5:
            start, end = raw.rfind(b"\n", 0, start) + 1, raw.find(b"\n", end) + 1 or len(raw)
        return start, end

    def _cut(self, raw: bytes) -> bytes:
        start, end = self._piece(raw)
        return raw[:start] + raw[end:]

    def _repeat(self, raw: bytes) -> bytes:
        start, end = self._piece(raw)
        return raw[:start] + raw[start:end] * int(2 ** self._random.uniform(1, 6)) + raw[end:]

    def _strew(self, raw: bytes) -> bytes:
        start, end = self._piece(raw)
        word = self._random.choice(SPECIAL if self._random.random() < 0.4 else self._words)
        return raw[:start] + word + raw[self._random.choice((start, end)) :]

    def _overwrite(self, raw: bytes) -> bytes:
        start, _ = self._piece(raw)
        word = self._random.choice(SPECIAL)
        return raw[:start] + word + raw[start + len(word) :]

    def _noise(self, raw: bytes) -> bytes:
        start, _ = self._piece(raw)
        return raw[:start] + self._random.randbytes(self._random.randint(1, 4)) + raw[start + 1 :]

    def _move_line(self, raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True) or [b""]
        lines.insert(self._random.randrange(len(lines)), lines.pop(self._random.randrange(len(lines))))
        return b"".join(lines)

    def _borrow(self, raw: bytes) -> bytes:
        other = self._random.choice(self._corpus)
        (start, end), (at, until) = self._piece(other), self._piece(raw)
        return raw[:at] + other[start:end] + raw[self._random.choice((at, until)) :]

    def _cross(self, raw: bytes) -> bytes:
        other = self._random.choice(self._corpus)
        return raw[: self._piece(raw)[0]] + other[self._piece(other)[0] :]
