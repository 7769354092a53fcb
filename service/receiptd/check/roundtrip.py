"""A real message with a token of its own, and what comes back for it within a minute."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from receiptd import compose, correlation_token, interpret
from receiptd.check.finding import Finding, fail, good, warn
from receiptd.check.mailboxes import open_one
from receiptd.check.relay import open_relay
from receiptd.compose import Draft, Letter
from receiptd.errors import ReceiptdError
from receiptd.facts import Action, Report, ReportedRecipient, ReportKind
from receiptd.mail.return_path import ReturnPaths
from receiptd.mailbox import Mailbox
from receiptd.settings import Settings
from receiptd.smtp import Accepted, Dialogue, Envelope, Outcome, Refused

WHAT = "round trip"
TIMEOUT = 60
_LOOK_EVERY = 1.0
_FINAL = frozenset({Action.RELAYED, Action.EXPANDED, Action.DELIVERED, Action.FAILED})
_TEXT = """\
This message tests receiptd, which asks for return receipts: does a report about it come back?
Nothing needs to be done. If your mail program asks whether to send a read receipt, say yes.
"""


@dataclass(slots=True)
class _Watch:
    """A folder of an open mailbox and the first UID that is not old."""

    mailbox: Mailbox
    folder: str
    following: int
    seen: set[int] = field(default_factory=set)


def invitation(settings: Settings) -> str:
    """Say what only a round trip can show."""
    shown = ReturnPaths(settings.receipts.address, settings.receipts.subaddress).of("TOKEN")
    return f"whether reports to {shown} arrive in the mailbox, `receiptd check --send YOUR-ADDRESS` shows"


async def findings(settings: Settings, address: str) -> AsyncGenerator[Finding, None]:
    """Send a message to *address*, yield what the relay says and then each report, up to the decisive one."""
    mark = correlation_token.make_for_check()
    async with AsyncExitStack() as stack:
        try:
            watches = await _open(settings, stack)
            outcome = await _submit(settings, address, mark)
            yield _submitted(outcome, address)
            if not isinstance(outcome, Accepted):
                return
            reports = 0
            coming = await stack.enter_async_context(aclosing(_reports(watches, mark, settings.service.max_report)))
            async for report in coming:
                reports += 1
                for recipient in report.recipients:
                    yield _came(report, recipient, address)
                if any(recipient.action in _FINAL for recipient in report.recipients):
                    return
        except ReceiptdError as error:
            yield fail(WHAT, str(error))
            return
    if not reports:
        yield _silence(settings, outcome)


async def _open(settings: Settings, stack: AsyncExitStack) -> list[_Watch]:
    """Log in to the mailboxes for reports and note where each folder ends now."""
    watches: list[_Watch] = []
    for one in settings.mailbox:
        if one.role != "receipts":
            continue
        mailbox = await stack.enter_async_context(open_one(one))
        folders = [await mailbox.resolve(wanted) for wanted in one.folders]
        watches += [_Watch(mailbox, name, await _following(mailbox, name)) for name in folders if name is not None]
    return watches


async def _submit(settings: Settings, address: str, mark: str) -> Outcome:
    relay = open_relay(settings)
    try:
        return await relay.submit(_envelope(settings, address, mark), before_data=_nothing_to_commit)
    finally:
        await relay.close()


async def _nothing_to_commit(_: Dialogue) -> None:
    """Commit nothing: no row is about this message."""


def _envelope(settings: Settings, address: str, mark: str) -> Envelope:
    receipts = settings.receipts
    letter = _letter(settings, address)
    return_path = ReturnPaths(receipts.address, receipts.subaddress).of(mark)
    content = compose.for_recipient(
        letter.content,
        disposition_notification_to=None if receipts.mdn == "never" else return_path,
        receipt_token=None if receipts.subaddress else mark,
    )
    return Envelope(
        return_path=return_path,
        recipient=address,
        content=content,
        envelope_id=mark,
        notify=receipts.notify,
        ret=receipts.ret,
        needs_8bitmime=letter.needs_8bitmime,
        needs_smtputf8=letter.needs_smtputf8,
        longest_line=letter.longest_line,
    )


def _letter(settings: Settings, address: str) -> Letter:
    draft = Draft(
        from_=settings.receipts.address, to=(address,), subject="receiptd: a test of return receipts", text=_TEXT
    )
    return compose.compose(draft, now=datetime.now(UTC))


def _submitted(outcome: Outcome, address: str) -> Finding:
    match outcome:
        case Accepted():
            asked = "with a delivery report requested" if outcome.dsn_requested else "which offers no delivery reports"
            return good(WHAT, f"the relay took a message to {address}, {asked}: {outcome.reply}")
        case Refused():
            return fail(WHAT, f"the relay won't take a message to {address}: {outcome.reason}")
        case _:
            return fail(WHAT, f"it is not known whether the relay took the message: {outcome.reason}")


async def _following(mailbox: Mailbox, folder: str) -> int:
    """Return the UID from which on all is new in *folder*."""
    selected = await mailbox.select(folder)
    return selected.uidnext or max(await mailbox.search_from(1), default=0) + 1


async def _reports(watches: list[_Watch], mark: str, max_report: int) -> AsyncGenerator[Report, None]:
    """Yield each report with the token *mark* as it comes, for a minute at most."""
    end = asyncio.get_running_loop().time() + TIMEOUT
    while asyncio.get_running_loop().time() < end:
        for watch in watches:
            await watch.mailbox.select(watch.folder)
            uids = [uid for uid in await watch.mailbox.search_from(watch.following) if uid not in watch.seen]
            watch.seen.update(uids)
            async for fetched in watch.mailbox.fetch(uids, max_report=max_report):
                report = interpret.interpret(fetched.raw)
                if mark in report.tokens and report.kind is not ReportKind.ORDINARY:
                    yield report
        await asyncio.sleep(_LOOK_EVERY)


def _came(report: Report, recipient: ReportedRecipient, address: str) -> Finding:
    teller = report.reporting_mta or report.reporting_ua or "a server"
    because = f" ({recipient.diagnostic_code or recipient.status or 'without a reason'})"
    match recipient.action:
        case Action.DELIVERED:
            return good(WHAT, f'delivered: {teller} says it lies in the mailbox; `require = "delivered"` works there')
        case Action.RELAYED:
            return good(
                WHAT,
                f"relayed: {teller} handed it on, and nobody behind it reports; more than "
                '`require = "relayed"` can\'t be met there',
            )
        case Action.EXPANDED:
            return good(WHAT, f"expanded: {teller} says {address} is an alias or list; it proves as much as relayed")
        case Action.DELAYED:
            return warn(WHAT, f"delayed: {teller} can't pass it on for now{because}; reports do come back, though")
        case Action.FAILED:
            return warn(WHAT, f"failed: {teller} could not deliver it{because}; that report came back as it should")
        case None:
            return good(WHAT, f"an answer came back, no delivery report: {report.kind}; the way back works")
        case other:
            return good(WHAT, f"{other}: the reader's side confirms it; read receipts from there come back")


def _silence(settings: Settings, outcome: Outcome) -> Finding:
    if isinstance(outcome, Accepted) and not outcome.dsn_requested:
        return warn(WHAT, f"no report within {TIMEOUT} s; none was to be expected from a relay without DSN")
    return_path = ReturnPaths(settings.receipts.address, settings.receipts.subaddress).of("TOKEN")
    return fail(
        WHAT,
        f"no report within {TIMEOUT} s: either a server on the way gives none, or mail to "
        f"{return_path} doesn't reach the mailbox; "
        "send a mail to such an address yourself, and if it doesn't arrive, choose another subaddress",
    )
