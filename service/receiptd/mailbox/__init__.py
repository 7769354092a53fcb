"""The only module that knows aioimaplib and its traps."""

from receiptd.mailbox.door import open_mailbox
from receiptd.mailbox.faults import FolderMissing, MailboxDown, MailboxFault, MailboxRefused
from receiptd.mailbox.inside import Mailbox
from receiptd.mailbox.values import Fetched, FolderInfo, Selected, Summary

__all__ = [
    "Fetched",
    "FolderInfo",
    "FolderMissing",
    "Mailbox",
    "MailboxDown",
    "MailboxFault",
    "MailboxRefused",
    "Selected",
    "Summary",
    "open_mailbox",
]
