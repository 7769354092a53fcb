"""The only module that knows aioimaplib and its traps."""

from receiptd.mailbox.door import open_mailbox
from receiptd.mailbox.faults import (
    FolderClosed,
    FolderMissing,
    MailboxDown,
    MailboxFault,
    MailboxRefused,
    MessageWithheld,
)
from receiptd.mailbox.inside import Mailbox
from receiptd.mailbox.values import Fetched, FolderInfo, Look, Selected, Summary

__all__ = [
    "Fetched",
    "FolderClosed",
    "FolderInfo",
    "FolderMissing",
    "Look",
    "Mailbox",
    "MailboxDown",
    "MailboxFault",
    "MailboxRefused",
    "MessageWithheld",
    "Selected",
    "Summary",
    "open_mailbox",
]
