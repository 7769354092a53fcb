"""The only package that knows aioimaplib and its quirks."""

from receiptd.mailbox.connect import open_mailbox
from receiptd.mailbox.faults import (
    FolderClosed,
    FolderMissing,
    MailboxDown,
    MailboxFault,
    MailboxRefused,
    MessageWithheld,
)
from receiptd.mailbox.session import Mailbox
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
