"""The command line of send-with-receipt: options, exit status, and what is printed."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from receiptd import client, duration, terminal
from receiptd.send.message import hand_over
from receiptd.send.waiting import hand_out, wait, wait_for_json

NAME = "send-with-receipt"
LEVELS = ("accepted", "relayed", "delivered", "displayed", "replied")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (0, 1, 3, 4 or one of sysexits.h)."""
    return terminal.guard(NAME, lambda: _send(_arguments(argv)))


def _parser() -> terminal.Parser:
    parser = terminal.Parser(
        prog=NAME,
        usage=f"{NAME} -f ADDRESS [options] RECIPIENT… < text\n       {NAME} -t [options] < message",
        description="Send a message, and be told when no receipt comes.",
        epilog="Exit status: 0 accepted (with --wait: every requirement met); with --wait 1 at least one failed, "
        "3 at least one overdue, 4 still open when the time was over; else as in sysexits.h.",
    )
    parser.add_argument("recipients", nargs="*", metavar="RECIPIENT", help="an address to send to")
    compose = parser.add_argument_group("compose a message")
    compose.add_argument("-f", "--from", dest="from_", metavar="ADDRESS", help="who sends it")
    compose.add_argument("-s", "--subject", metavar="TEXT")
    compose.add_argument("--text", metavar="FILE", help="the text, in UTF-8; - is standard input (default)")
    compose.add_argument("--html", metavar="FILE", help="the HTML form, in UTF-8; alone, no text is read")
    compose.add_argument("-a", "--attach", metavar="FILE", action="append", default=[], help="a file more (repeatable)")
    compose.add_argument("--cc", metavar="ADDRESS", action="append", default=[], help="a copy (repeatable)")
    compose.add_argument(
        "--bcc", metavar="ADDRESS", action="append", default=[], help="a copy of which nobody reads (repeatable)"
    )
    compose.add_argument("--header", metavar="'NAME: VALUE'", action="append", default=[], help="a field (repeatable)")
    whole = parser.add_argument_group("or take a complete message (RFC 5322) from standard input")
    whole.add_argument(
        "-t", "--read-recipients", action="store_true", help="to whom its To, Cc and Bcc name, and RECIPIENT…"
    )
    whole.add_argument("-i", dest="complete", action="store_true", help="without -t: to RECIPIENT… alone")
    receipt = parser.add_argument_group("receipt")
    receipt.add_argument("--require", choices=LEVELS, help="what counts as receipt")
    receipt.add_argument("--within", metavar="DURATION", type=_duration, help="by when: 90s, 30m, 4h, 3d or PT4H")
    receipt.add_argument("--policy", metavar="NAME")
    receipt.add_argument("--require-all", action="store_true", help="Cc and Bcc too must meet the requirement")
    mdn = receipt.add_mutually_exclusive_group()
    mdn.add_argument("--mdn", dest="mdn", action="store_const", const="always", help="ask for a read receipt")
    mdn.add_argument("--no-mdn", dest="mdn", action="store_const", const="never", help="don't")
    receipt.add_argument(
        "--label", metavar="KEY=VALUE", action="append", default=[], help="told in alerts (repeatable)"
    )
    receipt.add_argument("--idempotency-key", metavar="KEY", help="the same key twice is one message")
    parser.add_argument(
        "--wait", nargs="?", const="", metavar="DURATION", help="stay until every recipient is settled, or so long"
    )
    parser.add_argument("--json", action="store_true", help="print id, message_id and recipients as JSON")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the settings file that names the sockets")
    parser.add_argument("--server", metavar="URL", help="the daemon elsewhere; $RECEIPTD_TOKEN_FILE holds the token")
    parser.add_argument("--version", action=terminal.Version, help="print the version and leave")
    return parser


def _arguments(argv: Sequence[str] | None) -> Namespace:
    parser = _parser()
    options, recipients = _divided(sys.argv[1:] if argv is None else argv)
    args = parser.parse_intermixed_args(options)
    args.recipients += recipients
    if args.wait and "@" in args.wait:  # `--wait bob@b.org`: the recipient is no duration
        args.recipients.insert(0, args.wait)
        args.wait = ""
    try:
        args.wait_seconds = duration.parse(args.wait).total_seconds() if args.wait else None
    except ValueError as error:
        parser.error(f"--wait: {error}")
    return args


def _divided(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return what stands before `--` and behind it: intermixed parsing would take the latter for options."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _duration(text: str) -> timedelta:
    try:
        span = duration.parse(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if not span:
        raise ArgumentTypeError(f"{text!r} leaves no time for a receipt")
    return span


def _send(args: Namespace) -> int:
    daemon = client.find(args.config, args.server)
    accepted = hand_over(daemon, args)
    for warning in accepted.get("warnings") or ():
        terminal.tell(f"{NAME}: warning: {warning}")
    if args.json and args.wait is not None:
        return wait_for_json(daemon, accepted, args.wait_seconds)
    hand_out(json.dumps(accepted) if args.json else terminal.safe(accepted["id"]), accepted["id"])
    return os.EX_OK if args.wait is None else wait(daemon, accepted["id"], args.wait_seconds)
