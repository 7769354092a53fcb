"""What an account of the settings logs in with."""

from __future__ import annotations

from receiptd.oauth import AccessToken
from receiptd.settings import MailboxSettings, Submission, read_secret
from receiptd.smtp import TokenSource


def access_token(account: Submission | MailboxSettings) -> TokenSource | None:
    """Return where the OAuth access token of *account* comes from, or None where it has a password."""
    return AccessToken(account.oauth).get if account.oauth else None


def password(account: MailboxSettings) -> str | None:
    """Return the password of *account*; raise BadSettings where its file holds none."""
    return read_secret(account.password_file) if account.password_file else None
