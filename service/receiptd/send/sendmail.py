"""What sendmail's options mean here, and addresses without a domain, as local programs write them."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from receiptd.errors import BadData, UsageError

MAILNAME = Path("/etc/mailname")
"""Where Debian keeps the domain of this machine's mail."""

# Patterns are texts here: to compile them all costs 8 ms, and most messages need none.
_WITHOUT_EFFECT = r"[imosv]|e[empqw]|d[bdiq]"
_OTHER_WORK = {
    "d": "runs a server: use `receiptd run`",
    "p": "lists the queue: use `receiptd list`",
    "s": "speaks SMTP on standard input: use the relay itself for that",
    "t": "tests addresses: use `receiptd check --send ADDRESS`",
    "v": "verifies addresses: use `receiptd check --send ADDRESS`",
}
_ADDRESS_FIELD = rb"(?im)^((?:from|sender|(?:resent-)?(?:to|cc|bcc))[ \t]*:)((?:[^\r\n]|\r?\n[ \t])*)"
_NAME = r"[A-Za-z0-9._+-]+"
_QUOTED = rb'("(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.|\([^()]*\))*\))'
_FIRST_FIELDS = frozenset(
    b"from to cc bcc reply-to sender subject date message-id mime-version content-type received return-path".split()
)


def is_meant(args: Namespace) -> bool:
    """Whether an option is given that only sendmail has: its caller hands over a complete message."""
    return any((args.o, args.b, args.body_type, args.full_name, args.notify, args.ret, args.envid))


def check(args: Namespace) -> None:
    """Raise UsageError with a sentence for what can't be meant here."""
    for option in args.o:
        if not re.fullmatch(_WITHOUT_EFFECT, option):
            raise UsageError(f"-o{option} means nothing here: leave it out")
    for mode in args.b:
        if mode != "m":
            raise UsageError(f"-b{mode} {_OTHER_WORK.get(mode, 'hands no message over: leave it out')}")
    if (args.body_type or "8BITMIME").upper() not in ("7BIT", "8BITMIME"):
        raise UsageError("-B takes 7BIT or 8BITMIME")
    _check_dsn(args)


def _check_dsn(args: Namespace) -> None:
    """Let pass what is asked for anyway: what a daemon asks of its relay is the same for all its messages."""
    words = {word.strip().lower() for word in (args.notify or "failure").split(",")}
    if words == {"never"}:
        raise UsageError("-N never: without delivery reports there is no receipt; hand such mail to sendmail itself")
    if "delay" in words:
        raise UsageError("-N delay: that is a setting, [receipts] notify, for all messages alike: leave it out")
    if words - {"success", "failure"}:
        raise UsageError("-N takes success and failure, joined by a comma")
    if args.ret and args.ret.lower() == "full":
        raise UsageError("-R full: that is a setting, [receipts] ret, for all messages alike: leave it out")
    if args.ret and args.ret.lower() != "hdrs":
        raise UsageError("-R takes hdrs")


def is_header(octets: bytes) -> bool:
    """Whether a text begins with header fields: a complete message, handed over as if it were a text."""
    lines = octets[:65536].splitlines()
    if lines and lines[0].startswith((b"From ", b">From ")):
        del lines[0]
    if not lines or not _is_first_field(lines[0]):
        return False
    header = lines[: lines.index(b"")] if b"" in lines else lines
    return all(line.startswith((b" ", b"\t")) or _field_name(line) for line in header)


def _is_first_field(line: bytes) -> bool:
    name = _field_name(line)
    return name in _FIRST_FIELDS or name.startswith(b"x-")


def _field_name(line: bytes) -> bytes:
    """Return the name of the field that *line* begins, in lower case; nothing for another line."""
    name, colon, _ = line.partition(b":")
    words = name.split()
    return words[0].lower() if colon and len(words) == 1 and not name[:1].isspace() else b""


def qualify(header: bytes, domain: Callable[[], str]) -> bytes:
    """Return *header* with *domain* behind each name that stands alone in an address field; all else as it was."""
    return re.sub(_ADDRESS_FIELD, lambda found: found[1] + _qualify_list(found[2], domain), header)


def qualify_address(address: str, domain: Callable[[], str]) -> str:
    """Return *address* with *domain* where it is a name alone, such as `root`."""
    return f"{address}@{domain()}" if re.fullmatch(_NAME, address) else address


def _qualify_list(value: bytes, domain: Callable[[], str]) -> bytes:
    if all(b"@" in part for part in value.split(b",")):
        return value
    from receiptd.mail.address_list import parse_mailboxes  # the few that need it may wait for it

    try:
        names = [one.address for one in parse_mailboxes(value.decode("latin-1")) if re.fullmatch(_NAME, one.address)]
    except BadData:
        return value  # the daemon says what is wrong with it
    pieces = re.split(_QUOTED, value)
    for name in names:
        _qualify_one(pieces, re.escape(name.encode()), b"@" + domain().encode())
    return b"".join(pieces)


def _qualify_one(pieces: list[bytes], word: bytes, domain: bytes) -> None:
    """Put *domain* behind the first *word* that is an address: in angle brackets before all else."""
    for pattern in (rb"(<[ \t]*" + word + rb")(?=[ \t]*>)", rb"((?:\A|[,:;\s])" + word + rb")(?=\s*(?:[,;]|\Z))"):
        for at in range(0, len(pieces), 2):  # between them stand quoted strings and comments
            pieces[at], is_done = re.subn(pattern, lambda found: found[1] + domain, pieces[at], count=1)
            if is_done:
                return


def domain_of_this_machine(receipts_address: str | None) -> str:
    """Return the domain that a name alone belongs to: of /etc/mailname, else of [receipts] address."""
    try:
        name = MAILNAME.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    name = name or (receipts_address or "").rpartition("@")[2]
    if not name:
        raise BadData(
            f"an address has no domain: write name@example.org, or the domain of this machine's mail into {MAILNAME}"
        )
    return name
