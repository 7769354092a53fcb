"""The command line of send-with-receipt: options, exit status, and what is printed."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from receiptd import client, duration, terminal
from receiptd.send import sendmail
from receiptd.send.message import hand_over
from receiptd.send.waiting import hand_out, wait, wait_for_json

if TYPE_CHECKING:
    from datetime import timedelta

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
    compose.add_argument(
        "-f",
        "-r",
        "--from",
        dest="from_",
        metavar="ADDRESS",
        help="who sends it, whatever a complete message's From says",
    )
    compose.add_argument("-s", "--subject", metavar="TEXT", help="the subject")
    compose.add_argument("--text", metavar="FILE", help="the text, in UTF-8; - is standard input (default)")
    compose.add_argument("--html", metavar="FILE", help="an HTML version, in UTF-8; without --text it is all there is")
    compose.add_argument(
        "-a", "--attach", metavar="FILE", action="append", default=[], help="a file to attach (repeatable)"
    )
    compose.add_argument("--cc", metavar="ADDRESS", action="append", default=[], help="who gets a copy (repeatable)")
    compose.add_argument(
        "--bcc", metavar="ADDRESS", action="append", default=[], help="who gets one unseen by the others (repeatable)"
    )
    compose.add_argument(
        "--header", metavar="'NAME: VALUE'", action="append", default=[], help="a further header field (repeatable)"
    )
    whole = parser.add_argument_group("or take a complete message (RFC 5322) from standard input")
    whole.add_argument(
        "-t", "--read-recipients", action="store_true", help="send it to all in its To, Cc and Bcc, and to RECIPIENT…"
    )
    whole.add_argument(
        "-i", dest="complete", action="store_true", help="send it to RECIPIENT… alone, whoever its header names"
    )
    _add_sendmails_options(parser)
    receipt = parser.add_argument_group("receipt")
    receipt.add_argument(
        "--require",
        choices=LEVELS,
        help="how far it must come, for the receipt to be met (default: as the policy says)",
    )
    receipt.add_argument(
        "--within",
        metavar="DURATION",
        type=_duration,
        help="how long that may take: 90s, 30m, 4h, 3d or PT4H (default: as the policy says)",
    )
    receipt.add_argument("--policy", metavar="NAME", help="a policy of the settings (default: default)")
    receipt.add_argument("--require-all", action="store_true", help="Cc and Bcc too must meet what --require asks")
    mdn = receipt.add_mutually_exclusive_group()
    mdn.add_argument("--mdn", dest="mdn", action="store_const", const="always", help="ask for a read receipt")
    mdn.add_argument("--no-mdn", dest="mdn", action="store_const", const="never", help="don't ask for one")
    receipt.add_argument(
        "--label",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="kept with the message, told in alerts (repeatable)",
    )
    receipt.add_argument(
        "--idempotency-key", metavar="KEY", help="what is handed over twice under one key is sent once"
    )
    parser.add_argument(
        "--wait",
        nargs="?",
        const="",
        metavar="DURATION",
        help="wait until every receipt is met, failed or overdue, for DURATION at most",
    )
    parser.add_argument("--json", action="store_true", help="print id, message_id and recipients as JSON")
    parser.add_argument("--config", metavar="FILE", type=Path, help="the settings file that names the sockets")
    parser.add_argument(
        "--server", metavar="URL", help="a daemon elsewhere; $RECEIPTD_TOKEN_FILE names the file with the token"
    )
    parser.add_argument("--version", action=terminal.Version, help="print the version and exit")
    return parser


def _add_sendmails_options(parser: terminal.Parser) -> None:
    group = parser.add_argument_group("or take it as sendmail does (each of these means: a complete message)")
    group.add_argument("-o", metavar="OPTION", action="append", default=[], help="-oi, -oem, -odb and the like: taken")
    group.add_argument("-b", metavar="MODE", action="append", default=[], help="-bm: taken")
    group.add_argument(
        "-B", dest="body_type", metavar="TYPE", help="7BIT or 8BITMIME: taken, the message itself shows it"
    )
    group.add_argument("-F", dest="full_name", metavar="NAME", help="the sender's name, where the message has no From")
    group.add_argument("-N", dest="notify", metavar="WHEN", help="success, failure: taken, both are asked for anyway")
    group.add_argument("-R", dest="ret", metavar="HOW", help="hdrs: taken")
    group.add_argument("-V", dest="envid", metavar="ID", help="kept as the label `envid`")


def _arguments(argv: Sequence[str] | None) -> Namespace:
    parser = _parser()
    options, recipients = _divided(sys.argv[1:] if argv is None else argv)
    args = parser.parse_intermixed_args(options)
    args.recipients += recipients
    args.complete |= sendmail.is_meant(args) or Path(sys.argv[0]).name == "sendmail"
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
