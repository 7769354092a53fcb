"""The parameters of MAIL and RCPT that ask for delivery status notifications (RFC 3461, 6533 §3)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from receiptd.errors import BadData
from receiptd.mail import xtext

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_LONGEST_ENVID = 100
_LONGEST_ORCPT = 500


def mail_parameters(
    *, envelope_id: str, ret: str, smtputf8: bool, body_8bit: bool, size: int | None, dsn: bool
) -> list[str]:
    """Return the parameters of MAIL FROM, each once (RFC 1870, 6152, 6531, 3461 §4.3-4.4).

    *size* is None and the booleans are False where the server doesn't offer the extension.
    """
    parameters = [] if size is None else [f"SIZE={size}"]
    if body_8bit or smtputf8:
        parameters.append("BODY=8BITMIME")
    if smtputf8:
        parameters.append("SMTPUTF8")
    if dsn:
        parameters += [f"RET={_checked_ret(ret)}", f"ENVID={_checked_envid(envelope_id)}"]
    return parameters


def rcpt_parameters(address: str, *, notify: Iterable[str], smtputf8: bool, dsn: bool) -> list[str]:
    """Return the parameters of RCPT TO for one recipient (RFC 3461 §4.1-4.2); none without *dsn*.

    An ORCPT beyond 500 characters is left out: the report then has a Final-Recipient and our token still.
    """
    if not dsn:
        return []
    original = original_recipient(address, smtputf8=smtputf8)
    orcpt = [f"ORCPT={original}"] if len(original.encode()) <= _LONGEST_ORCPT else []
    return [f"NOTIFY={notify_value(notify)}", *orcpt]


def notify_value(notify: Iterable[str]) -> str:
    """Return the value of NOTIFY in the order of RFC 3461; raise BadData for what must not be asked.

    SUCCESS alone is refused: behind an alias Postfix makes NEVER of it, and failures vanish.
    """
    wanted = {word.strip().upper() for word in notify}
    if unknown := wanted - {"NEVER", "SUCCESS", "FAILURE", "DELAY"}:
        raise BadData(f"NOTIFY knows never, success, failure and delay, not {min(unknown)!r}")
    if not wanted:
        raise BadData("NOTIFY needs at least one of success, failure, delay, or never alone")
    if "NEVER" in wanted and len(wanted) > 1:
        raise BadData("NOTIFY=NEVER must stand alone (RFC 3461 §4.1)")
    if wanted == {"SUCCESS"}:
        raise BadData("NOTIFY=SUCCESS must not stand alone: behind an alias it would silence failures; add failure")
    return ",".join(word for word in ("NEVER", "SUCCESS", "FAILURE", "DELAY") if word in wanted)


def original_recipient(address: str, *, smtputf8: bool) -> str:
    """Return the value of ORCPT: address type and the address, encoded as its type prescribes."""
    if address.isascii():
        return f"rfc822;{xtext.encode(address)}"
    return "utf-8;" + xtext.encode_utf8(address, smtputf8=smtputf8)


def _checked_ret(ret: str) -> str:
    if ret.upper() not in ("HDRS", "FULL"):
        raise BadData(f"RET knows hdrs and full, not {ret!r}")
    return ret.upper()


def _checked_envid(envelope_id: str) -> str:
    if not _PRINTABLE.fullmatch(envelope_id):
        raise BadData("an envelope id is printable ASCII: a line break in it would be a command of its own")
    encoded = xtext.encode(envelope_id)
    if len(encoded) > _LONGEST_ENVID:
        raise BadData("an envelope id is at most 100 characters long (RFC 3461 §4.4)")
    return encoded
