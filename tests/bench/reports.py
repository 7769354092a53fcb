"""The reports that come back, as Postfix writes them."""

from __future__ import annotations

from tests.bench.planting import Clone

_STATUS = {"relayed": "2.0.0", "failed": "5.1.1"}
_SAID = {"relayed": "250 2.0.0 <{}> rq8eBv Saved", "failed": "550 5.1.1 <{}>: user unknown"}
_SUBJECT = {"relayed": "Successful Mail Delivery Report", "failed": "Undelivered Mail Returned to Sender"}
_PROSE = {
    "relayed": (
        "Your message was successfully delivered to the destination(s)\nlisted below. "
        "If the message was delivered to mailbox you will\nreceive no further notifications. Otherwise you may still "
        "receive\nnotifications of mail delivery errors from other systems.\n"
    ),
    "failed": (
        "I'm sorry to have to inform you that your message could not\n"
        "be delivered to one or more recipients. It's attached below.\n"
    ),
}


def report(about: Clone, action: str = "relayed", receipts: str = "receipts@a.test") -> bytes:
    """Return a delivery report as it lies in the mailbox of the address *receipts*."""
    user, _, domain = receipts.partition("@")
    path = f"{user}+{about.token}@{domain}"
    host, said = about.address.partition("@")[2], _SAID[action].format(about.address)
    boundary = f"4cXk{about.number:08d}.1732440000/mx.{host}"
    return f"""\
Return-Path: <>
Delivered-To: {path}
Received: from mx.{host} (localhost [127.0.0.1])
\tby mail.a.test with LMTP id {about.number:08d}
\tfor <{path}>; Tue, 24 Nov 2026 09:30:02 +0000
Received: by mx.{host} (Postfix)
\tid 4cXk{about.number:08d}; Tue, 24 Nov 2026 09:30:01 +0000 (UTC)
Date: Tue, 24 Nov 2026 09:30:01 +0000 (UTC)
From: MAILER-DAEMON@{host} (Mail Delivery System)
Subject: {_SUBJECT[action]}
To: {path}
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="{boundary}"
Message-Id: <20261124093001.4cXk{about.number:08d}@mx.{host}>

This is a MIME-encapsulated message.

--{boundary}
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.{host}.

{_PROSE[action]}
                   The mail system

<{about.address}>: delivery via mail.{host}[127.0.0.1]:24:
    {said}

--{boundary}
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.{host}
Original-Envelope-Id: {about.envelope_id}
X-Postfix-Queue-ID: 4cXj{about.number:08d}
X-Postfix-Sender: rfc822; {path}
Arrival-Date: Tue, 24 Nov 2026 09:30:00 +0000 (UTC)

Final-Recipient: rfc822; {about.address}
Original-Recipient: rfc822;{about.address}
Action: {action}
Status: {_STATUS[action]}
Remote-MTA: dns; mail.{host}
Diagnostic-Code: smtp; {said}

--{boundary}
Content-Description: Message Headers
Content-Type: text/rfc822-headers

Return-Path: <{path}>
Received: from relay.a.test (relay.a.test [127.0.0.1])
\tby mx.{host} (Postfix) with ESMTP id 4cXj{about.number:08d}
\tfor <{about.address}>; Tue, 24 Nov 2026 09:30:00 +0000 (UTC)
From: office@a.test
To: {about.address}
Subject: An invoice
Date: Tue, 24 Nov 2026 09:29:59 +0000
Message-ID: {about.message_id}
Disposition-Notification-To: {path}
MIME-Version: 1.0
Content-Type: text/plain; charset="utf-8"
Content-Transfer-Encoding: 7bit

--{boundary}--
""".encode()
