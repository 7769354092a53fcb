"""The reports that come back in these tests, and what a relay was told of the letters."""

from __future__ import annotations

from collections.abc import Sequence


def report(return_path: str, recipient: str, action: str = "delivered") -> bytes:
    """Return a delivery report (RFC 3464) as it lies in the mailbox behind *return_path*."""
    status = {"delivered": "2.0.0", "relayed": "2.0.0", "failed": "5.1.1", "delayed": "4.2.0"}[action]
    return f"""\
Delivered-To: {return_path}
From: MAILER-DAEMON@b.test (Mail Delivery System)
To: {return_path}
Subject: Mail Delivery Report
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="=-b"

--=-b

A report of {recipient}.

--=-b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.b.test
Arrival-Date: Tue, 24 Nov 2026 09:30:00 +0000

Final-Recipient: rfc822; {recipient}
Original-Recipient: rfc822;{recipient}
Action: {action}
Status: {status}

--=-b--
""".replace("\n", "\r\n").encode()


def return_path_of(lines: Sequence[str], recipient: str) -> str:
    """Return the return path of the last RCPT for *recipient* in the commands that a relay got."""
    rcpt = max(number for number, line in enumerate(lines) if line.startswith(f"RCPT TO:<{recipient}>"))
    mail = next(line for line in reversed(lines[:rcpt]) if line.startswith("MAIL FROM:"))
    return mail.partition("<")[2].partition(">")[0]
