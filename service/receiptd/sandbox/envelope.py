"""An envelope as the submission server took it: addresses, DSN request (RFC 3461), bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parseaddr


@dataclass(frozen=True, slots=True)
class Envelope:
    """One recipient of one transaction; *notify* is empty where NOTIFY was not given."""

    return_path: str
    recipient: str
    content: bytes
    arrived_at: datetime
    queue_id: str
    envelope_id: str | None = None
    ret: str | None = None
    notify: frozenset[str] = frozenset()
    original_recipient: str | None = None

    @property
    def domain(self) -> str:
        return self.recipient.rpartition("@")[2].lower()

    def wants(self, condition: str) -> bool:
        """Return whether a report of *condition* (SUCCESS, FAILURE, DELAY) was asked for (RFC 3461 §4.1, §5.2.8)."""
        if self.notify:
            return condition in self.notify
        return condition == "FAILURE"

    @property
    def header_bytes(self) -> bytes:
        """The header as it came, CRLF at its end."""
        return self.content.partition(b"\r\n\r\n")[0] + b"\r\n"

    @property
    def header(self) -> Message:
        return BytesHeaderParser().parsebytes(self.content)

    @property
    def message_id(self) -> str:
        return str(self.header.get("Message-ID", ""))

    @property
    def subject(self) -> str:
        """The subject on one line, still encoded."""
        return " ".join(str(self.header.get("Subject", "")).split())

    @property
    def receipt_address(self) -> str | None:
        """Where a read receipt is to go (RFC 8098 §2.1), or None where none was asked for."""
        return parseaddr(str(self.header.get("Disposition-Notification-To", "")))[1] or None
