"""Wait until every recipient of a message is settled, and show it while it happens."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from receiptd import client, terminal
from receiptd.errors import CantWrite, ReceiptdError

FAILED, OVERDUE, STILL_OPEN = 1, 3, 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 2.0
_RESTART = 60.0
"""Seconds for which a daemon that doesn't answer may be one that is being restarted."""


def wait(daemon: client.Client, message_id: str, seconds: float | None) -> int:
    """Show the states until all is settled or the time is over; return the exit status that they mean."""
    states = _states(daemon, message_id, seconds)
    return _outcome(_draw(states) if sys.stdout.isatty() else _write(states))


def _draw(states: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Draw the states on a terminal, each over the last; return the last."""
    from receiptd.send.screen import LiveTable

    live = LiveTable(sys.stdout)
    message: Mapping[str, Any] = {"recipients": ()}
    for message in states:
        live.draw(message)
    live.end(message)
    return message


def _write(states: Iterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Write a line for each change of a recipient; return the last state."""
    from receiptd.send.screen import lines

    shown: dict[str, str] = {}
    message: Mapping[str, Any] = {"recipients": ()}
    for message in states:
        for recipient, line in lines(message):
            if shown.get(recipient) != line:
                print(line, flush=True)
            shown[recipient] = line
    return message


def wait_for_json(daemon: client.Client, accepted: dict[str, Any], seconds: float | None) -> int:
    """Wait without a word, and print what was accepted together with what became of it, interrupted or not."""
    known = accepted
    try:
        for message in _states(daemon, accepted["id"], seconds):
            known = {**accepted, "recipients": message["recipients"]}
    finally:
        hand_out(json.dumps(known), accepted["id"])
    return _outcome(known)


def hand_out(line: str, message_id: str) -> None:
    """Print what tells the message's id; a script must not take it for refused where that fails (74, CantWrite)."""
    try:
        print(line, flush=True)
    except (CantWrite, BrokenPipeError) as error:
        raise CantWrite(
            f"the message was taken as {message_id} and must not be handed over again, "
            f"but its id can't be told on standard output ({terminal.reason_of(error.__cause__ or error)})"
        ) from error


def _states(daemon: client.Client, message_id: str, seconds: float | None) -> Iterator[Mapping[str, Any]]:
    """Yield the message again and again, until every recipient is settled or *seconds* are over."""
    end = None if seconds is None else time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        message = _look(daemon, message_id, end)
        yield message
        left = _LONGEST_PAUSE if end is None else end - time.monotonic()
        if left <= 0 or not any(_is_open(recipient) for recipient in message["recipients"]):
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _look(daemon: client.Client, message_id: str, end: float | None) -> Mapping[str, Any]:
    """Return the message; a daemon that is being restarted gets a minute to come back."""
    patience = time.monotonic() + _RESTART if end is None else min(time.monotonic() + _RESTART, end)
    while True:
        try:
            answer = daemon.get(client.path("messages", message_id))
        except ReceiptdError as error:
            if error.permanent or time.monotonic() >= patience:
                raise
            time.sleep(_FIRST_PAUSE)
        else:
            message: Mapping[str, Any] = client.expect(answer, recipients=list)
            return message


def _is_open(recipient: Mapping[str, Any]) -> bool:
    return recipient["receipt"] == "open" and recipient.get("delivery") != "cancelled"


def _outcome(message: Mapping[str, Any]) -> int:
    recipients = message["recipients"]
    receipts = {"failed" if it.get("delivery") == "cancelled" else it["receipt"] for it in recipients}
    if "failed" in receipts:
        return FAILED
    if "overdue" in receipts:
        return OVERDUE
    return STILL_OPEN if "open" in receipts else os.EX_OK
