"""receiptd …: the command line of the daemon and of the people who look after it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from receiptd import pages, terminal
from receiptd.errors import UsageError

NAME = "receiptd"
RECEIPTS = ("open", "met", "met_late", "overdue", "failed", "waived")
VERDICTS = ("matched", "unmatched", "suspicious", "noise", "set_aside")
_PAGE = 100
_SHOWN = 50
"""Entries of a list that a person gets without --limit."""

Items = Sequence[Mapping[str, Any]]
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (sysexits.h)."""
    return terminal.guard(NAME, lambda: _run(_arguments(argv)))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; what is too much is told with the usage of the command that it was given to."""
    args, surplus = _parser().parse_known_args(argv)
    if surplus:
        args.parser.error(f"unrecognized arguments: {' '.join(surplus)}")
    return args


def _run(args: argparse.Namespace) -> int:
    command: Command = args.command
    return command(args)


# Commands that work by themselves


def _daemon(args: argparse.Namespace) -> int:
    from receiptd import daemon

    return daemon.run(args.config)


def _demo(args: argparse.Namespace) -> int:
    from receiptd import sandbox

    return sandbox.demo(json=args.json, keep=args.keep, nodes=args.nodes, database=args.database)


def _check(args: argparse.Namespace) -> int:
    from receiptd import check

    return check.run(args.config, send=args.send)


def _interpret(args: argparse.Namespace) -> int:
    from receiptd.commands import interpret

    return interpret.main(args.files, jobs=args.jobs, as_json=args.json)


def _config_show(args: argparse.Namespace) -> int:
    from receiptd import settings

    sys.stdout.write(settings.show(settings.load(args.config)))
    return os.EX_OK


def _db_upgrade(args: argparse.Namespace) -> int:
    from receiptd import settings, store

    before, now = store.upgrade(settings.load(args.config).service.database)
    if before == now:
        terminal.tell(f"{NAME}: the database has the newest tables already ({now})")
    else:
        was = f"had the tables {before}" if before else "was empty"
        terminal.tell(f"{NAME}: the database {was} and has the tables {now} now, the newest")
    return os.EX_OK


# Commands that ask the daemon


def _list(args: argparse.Namespace) -> int:
    asked = [*_each("receipt", args.receipt), ("q", args.query), *_each("label", args.label)]
    return _print_newest(args, "messages", asked, pages.message_table)


def _show(args: argparse.Namespace) -> int:
    message = _expect(_ask(args).get(_path("messages", args.id)), id=str, recipients=list)
    _print_lines([json.dumps(message, indent=2)] if args.json else pages.message_page(message))
    return os.EX_OK


def _alerts(args: argparse.Namespace) -> int:
    return _print_newest(args, "alerts", (), pages.alert_pages)


def _reports(args: argparse.Namespace) -> int:
    return _print_newest(args, "reports", _each("verdict", args.verdict), pages.report_table)


def _each(name: str, values: Sequence[str]) -> list[tuple[str, str | None]]:
    return [(name, value) for value in values]


def _replay(args: argparse.Namespace) -> int:
    _ask(args).post(_path("alerts", args.id, "replay"))
    terminal.tell(f"{NAME}: alert {args.id} goes out again")
    return os.EX_OK


def _decide(args: argparse.Namespace) -> int:
    """Post what a person decided about a recipient, and say how it stands then."""
    body = {"reason": _reason(args.reason)}
    if getattr(args, "span", None):
        body["for"] = args.span
    return _report(_ask(args).post(_path("recipients", args.recipient, args.verb), body))


def _assign(args: argparse.Namespace) -> int:
    """Post of whom a person says that a report speaks, and say how that recipient stands then."""
    body = {"recipient": args.recipient, "reason": _reason(args.reason)}
    return _report(_ask(args).post(_path("reports", args.report, "assign"), body))


def _move(args: argparse.Namespace) -> int:
    """Cancel, retry or resend a message, and say how its recipients stand then."""
    return _report(_ask(args).post(_path("messages", args.id, args.verb)))


def _retry(args: argparse.Namespace) -> int:
    """Retry a message, or all that is held since a start with a database that may come from a backup."""
    if (args.id is None) is not args.held:
        raise UsageError("retry wants the ID of a message, or --held, and not both")
    if not args.held:
        return _move(args)
    released = _expect(_ask(args).post(_path("held", "retry")), released=int)["released"]
    terminal.tell(f"{NAME}: what was held for {released} recipient{'' if released == 1 else 's'} is sent now")
    return os.EX_OK


def _report(answer: Any) -> int:
    """Print an id that is new, and each recipient's state as far as the answer tells it."""
    if not isinstance(answer, dict):
        return os.EX_OK
    recipients = answer.get("recipients", [answer])
    if "recipients" in answer and "id" in answer:
        _print_lines([terminal.safe(answer["id"])])
    _print_lines(_standing(it) for it in recipients if "address" in it and "delivery" in it)
    if until := answer.get("acknowledged_until"):
        terminal.tell(f"{NAME}: acknowledged until {pages.when(until)}: no further level is told till then")
    for warning in answer.get("warnings") or ():
        terminal.tell(f"{NAME}: warning: {warning}")
    return os.EX_OK


def _standing(recipient: Mapping[str, Any]) -> str:
    """Return how a recipient stands, and why."""
    why = recipient.get("reason")
    return pages.recipient_line(recipient) + (f": {terminal.safe(why)}" if why else "")


def _reason(text: str) -> str:
    if not text.strip():
        raise UsageError("--reason wants words that someone will understand later")
    return text


def _ask(args: argparse.Namespace) -> Any:
    from receiptd import client

    return client.find(args.config, args.server)


def _path(*parts: str) -> str:
    from receiptd import client

    return client.path(*parts)


def _expect(answer: Any, **fields: type) -> Any:
    from receiptd import client

    return client.expect(answer, **fields)


def _print_newest(
    args: argparse.Namespace,
    what: str,
    asked: Iterable[tuple[str, str | None]],
    lines: Callable[[Items], Iterable[str]],
) -> int:
    """Print the newest of a list: for a program all as they come, for a person some, and whether there are more."""
    query = [(name, value) for name, value in asked if value is not None]
    if args.json:
        _print_lines(json.dumps(item) for item in _newest(args, what, query, args.limit))
        return os.EX_OK
    limit = args.limit or _SHOWN
    items = list(_newest(args, what, query, limit if args.limit else limit + 1))
    if items:
        _print_lines(lines(items[:limit]))
    else:
        terminal.tell(f"{NAME}: there are no {what}{' like that' if query else ''}")
    if len(items) > limit:
        terminal.tell(f"{NAME}: there are older ones: --limit N shows more")
    return os.EX_OK


def _newest(args: argparse.Namespace, what: str, query: list[tuple[str, str]], limit: int | None) -> Iterator[Any]:
    """Yield what the daemon lists, page by page: *limit* of it, or all."""
    daemon = _ask(args)
    place: list[tuple[str, str]] = []
    left = limit
    while left is None or left > 0:
        size = str(_PAGE if left is None else min(left, _PAGE))
        page = _expect(daemon.get(_path(what), [*query, ("limit", size), *place]), items=list)
        yield from page["items"][:left]
        if not page.get("next"):
            return
        place = [("after", str(page["next"]))]
        left = left and left - len(page["items"])


def _print_lines(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


# Options


def _parser() -> terminal.Parser:
    parser = terminal.Parser(prog=NAME, description="Return receipts for ordinary SMTP.", parents=[_config_option()])
    parser.set_defaults(config=None, server=None)
    parser.add_argument("--version", action=terminal.Version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_own_commands(commands)
    _add_questions(commands)
    _add_decisions(commands)
    return parser


def _config_option() -> terminal.Parser:
    options = terminal.Parser(add_help=False)
    options.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=argparse.SUPPRESS,
        help="the settings (default: $RECEIPTD_CONFIG, ./receiptd.toml, /etc/receiptd/receiptd.toml)",
    )
    return options


def _daemon_options() -> terminal.Parser:
    options = terminal.Parser(add_help=False, parents=[_config_option()])
    options.add_argument(
        "--server",
        metavar="URL",
        default=argparse.SUPPRESS,
        help="a daemon elsewhere; $RECEIPTD_TOKEN_FILE names the file with the token",
    )
    return options


def _add(commands: Any, name: str, command: Command, about: str, options: terminal.Parser) -> terminal.Parser:
    """Add one command to the parser and return its own parser."""
    parser: terminal.Parser = commands.add_parser(name, help=about, description=about, parents=[options])
    parser.set_defaults(command=command, verb=name, parser=parser)
    return parser


def _add_own_commands(commands: Any) -> None:
    config = _config_option()
    _add(commands, "run", _daemon, "run the daemon", config)
    demo = _add(commands, "demo", _demo, "show the main job on an embedded mail world", config)
    demo.add_argument("--json", action="store_true", help="print the result as JSON")
    demo.add_argument("--keep", action="store_true", help="leave world and daemon running until Ctrl-C")
    demo.add_argument("--nodes", metavar="N", type=_positive, default=1, help="daemons that share the work")
    demo.add_argument("--database", metavar="URL", help="an empty database; several nodes need PostgreSQL")
    check = _add(
        commands, "check", _check, "try settings, database, relay and mailbox, and say how to fix them", config
    )
    check.add_argument("--send", metavar="ADDRESS", help="send a message there and await its receipt")
    interpret = _add(commands, "interpret", _interpret, "say what raw messages report", config)
    interpret.add_argument("files", nargs="+", metavar="FILE", help="a message; - is standard input")
    interpret.add_argument("--json", action="store_true", help="print one object a message")
    interpret.add_argument("--jobs", metavar="N", type=_positive, default=1, help="processes to share the work")
    shown = commands.add_parser("config", help="show the settings").add_subparsers(metavar="COMMAND", required=True)
    _add(shown, "show", _config_show, "print the effective settings with secrets masked", config)
    database = commands.add_parser("db", help="look after the database").add_subparsers(
        metavar="COMMAND", required=True
    )
    _add(database, "upgrade", _db_upgrade, "bring the tables up to this version of receiptd", config)


def _add_questions(commands: Any) -> None:
    options = _daemon_options()
    listing = _add(commands, "list", _list, "list messages, newest first", options)
    several: dict[str, Any] = {"action": "append", "default": []}
    listing.add_argument(
        "--receipt", choices=RECEIPTS, help="only those with a recipient whose receipt is so (repeated: any)", **several
    )
    listing.add_argument("-q", "--query", metavar="TEXT", help="only those with TEXT in subject, address or Message-ID")
    listing.add_argument(
        "--label", metavar="KEY=VALUE", help="only those with this label (repeated: with all)", **several
    )
    _add_extent(listing)
    show = _add(commands, "show", _show, "show one message with every event and its evidence", options)
    show.add_argument("id", metavar="ID", help="of the message, as `receiptd list` prints it")
    show.add_argument("--json", action="store_true", help="print it as JSON")
    reports = _add(commands, "reports", _reports, "list what came back, newest first", options)
    reports.add_argument(
        "--verdict", choices=VERDICTS, help="only those that were taken for this (repeated: any)", **several
    )
    _add_extent(reports)
    alerts = _add(
        commands, "alerts", _alerts, "list alerts, newest first: to whom each went, with every attempt", options
    )
    _add_extent(alerts)
    replay = _add(alerts.add_subparsers(metavar="COMMAND"), "replay", _replay, "send an alert again", options)
    replay.add_argument("id", metavar="ALERT", help="its id, as `receiptd alerts` prints it")


def _add_extent(listing: terminal.Parser) -> None:
    listing.add_argument("--limit", metavar="N", type=_positive, help=f"at most N (default: {_SHOWN}, with --json all)")
    listing.add_argument("--json", action="store_true", help="print one object a line")


def _add_decisions(commands: Any) -> None:
    options = _daemon_options()
    for verb, about in (
        ("acknowledge", "say that you see to it: for a while nobody else is told"),
        ("waive", "say that no receipt is needed any more: ends the incident"),
        ("confirm", "say that it arrived: the receipt is met by your word"),
    ):
        decision = _add(commands, verb, _decide, about, options)
        decision.add_argument("recipient", metavar="RECIPIENT", help="its id, as `receiptd show` prints it")
        decision.add_argument("--reason", required=True, metavar="TEXT", help="why; kept with the decision")
        if verb == "acknowledge":
            decision.add_argument(
                "--for", dest="span", type=_duration, metavar="DURATION", help="for how long (default: 1d)"
            )
    assign = _add(
        commands, "assign", _assign, "say of which recipient an unmatched or suspicious report speaks", options
    )
    assign.add_argument("report", metavar="REPORT", help="its id, as `receiptd reports` prints it")
    assign.add_argument("recipient", metavar="RECIPIENT", help="its id, as `receiptd show` prints it")
    assign.add_argument("--reason", required=True, metavar="TEXT", help="why; kept with the decision")
    for verb, about in (
        ("cancel", "don't send what isn't sent yet"),
        ("resend", "send a new copy to those whose receipt did not come"),
    ):
        _add(commands, verb, _move, about, options).add_argument(
            "id", metavar="ID", help="of the message, as `receiptd list` prints it"
        )

    retry = _add(commands, "retry", _retry, "try at once what is queued or held", options)
    retry.add_argument("id", metavar="ID", nargs="?", help="of the message, as `receiptd list` prints it")
    retry.add_argument(
        "--held", action="store_true", help="all that is held since a start with a database that may come from a backup"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _duration(text: str) -> str:
    from receiptd import duration

    try:
        span = duration.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not span:
        raise argparse.ArgumentTypeError(f"{text!r} is no time at all")
    return duration.show(span)


if __name__ == "__main__":
    sys.exit(main())
