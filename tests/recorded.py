"""What real servers wrote (tests/fixtures/reports), rewritten so that it speaks of a message of the test's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from receiptd.accept import AcceptedMessage
from receiptd.models import Recipient
from receiptd.standing import RecipientRecord

FOLDER = Path(__file__).parent / "fixtures" / "reports"
EXPECTED: dict[str, dict[str, Any]] = {
    line["file"]: line for line in map(json.loads, (FOLDER / "expected.jsonl").read_text(encoding="utf-8").splitlines())
}
_SENDER = b"reports@a.test"
_FROM = re.compile(rb"^(From: Sender .*)<reports@a\.test>", re.MULTILINE)
_ENVELOPE_ID = re.compile(rb"^(Original-Envelope-Id: ).*\n", re.MULTILINE | re.IGNORECASE)


def recorded(name: str) -> bytes:
    """Return the recorded report whose file begins with *name*, its lines ended by LF, which are easier to rewrite."""
    return _path(name).read_bytes().replace(b"\r\n", b"\n")


def about(
    name: str,
    taken: AcceptedMessage,
    recipient: Recipient | RecipientRecord | None = None,
    *,
    token: str | None = None,
    envelope_id: str | None = None,
    message_id: str | None = None,
    address: str = "",
) -> bytes:
    """Return the recorded report *name* as its server would write it about our copy to *recipient* (the first).

    The address it was sent to becomes the return path with the recipient's token, the envelope id the recipient's, the
    Message-ID that it returns ours, and the one who sent it our sender. *token*, *envelope_id* and *message_id* put
    others there (a token stands for both; none: the bare address, or no envelope id); *address* is whom it names, in
    place of the recorded one.
    """
    recipient = recipient or taken.recipients[0]
    if envelope_id is None:
        envelope_id = recipient.envelope_id or recipient.token if token is None else token
    token = recipient.token if token is None else token
    ours = EXPECTED[_path(name).name]["original_message_id"]
    raw = recorded(name).replace(ours.encode(), (message_id or taken.message.message_id).encode())
    if address:
        for one in EXPECTED[_path(name).name]["recipients"]:
            raw = raw.replace(one["names"][0].encode(), address.encode())
    raw = _ENVELOPE_ID.sub(rb"\g<1>" + envelope_id.encode() + b"\n" if envelope_id else b"", raw)
    raw = _FROM.sub(rb"\1<office@a.test>", raw)
    return raw.replace(_SENDER, f"receipts+{token}@a.test".encode() if token else b"receipts@a.test")


def _path(name: str) -> Path:
    (path,) = FOLDER.glob(f"{name}.eml") if (FOLDER / f"{name}.eml").exists() else FOLDER.glob(f"{name}*.eml")
    return path
