"""Which recipients each block of a report is about, and as what."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from receiptd.facts import MatchedBy, Report, ReportedRecipient, ReportKind, Trust
from receiptd.mail import address
from receiptd.match.candidates import Candidate, Directory
from receiptd.match.match_keys import SUCCESS, MatchKey


@dataclass(frozen=True, slots=True)
class ReportTarget:
    """One block and one recipient it is about; *onward*: it names an address we did not send to."""

    block: ReportedRecipient
    at: Candidate
    trust: Trust
    onward: bool


def addresses(report: Report) -> tuple[str, ...]:
    """Return whom *report* names, each address once and in its order."""
    told = ((one.final_recipient, one.original_recipient, *one.aliases) for one in report.recipients)
    return tuple(dict.fromkeys(text for block in told for text in block if text))


def find(report: Report, key: MatchKey) -> list[ReportTarget]:
    """Return the targets of the blocks of *report*, our own addresses first."""
    blocks = report.recipients or (ReportedRecipient(),)
    directory = Directory(key.recipients)
    reader = directory.find(report.from_address) if report.kind is ReportKind.MDN else None
    if key.owner and key.by is MatchedBy.PERSON:
        found = _by_a_person(blocks, key, key.owner, directory, reader)
    elif key.owner:
        found = _under_token(blocks, key, key.owner, directory, reader)
    else:
        found = _under_message_id(blocks, key, directory, reader)
    return sorted(found, key=lambda target: target.onward)


def _under_token(
    blocks: Iterable[ReportedRecipient],
    key: MatchKey,
    owner: Candidate,
    directory: Directory,
    reader: Candidate | None,
) -> Iterator[ReportTarget]:
    """Yield the targets of a report that carries the token of *owner*.

    Every envelope has one recipient, so a block that names somebody else is about a branch behind the
    owner's address. Of that other recipient's own copy it is a guess, for who holds one copy must fail no other;
    that it arrived is plausible where a server on the way says so. Where a block of the same report names the owner,
    blocks about other recipients are about these alone.
    """
    read = [(block, _named(block, directory)) for block in blocks]
    names_owner = any(not _has_address(block) or owner in named for block, named in read)
    for block, named in read:
        others = [one for one in named if one is not owner]
        is_owners = owner in named or not _has_address(block) or reader is owner
        if is_owners or not others or not names_owner:
            onward = _is_onward(block, owner, directory) and reader is not owner
            yield ReportTarget(block, owner, key.trust, onward)
        lesser = Trust.PLAUSIBLE if key.trust is Trust.SEALED and block.action in SUCCESS else Trust.WEAK
        for one in others:
            yield ReportTarget(block, one, lesser, onward=_is_onward(block, one, directory))


def _by_a_person(
    blocks: Iterable[ReportedRecipient],
    key: MatchKey,
    owner: Candidate,
    directory: Directory,
    reader: Candidate | None,
) -> Iterator[ReportTarget]:
    """Yield the targets of a report of which a person says that it is about *owner*.

    No key says that its envelope had one recipient. So only what names the owner, or a branch known behind it, is about
    it, and what names nobody. A report that names others alone is about none of it: a wrong id must fail nobody.
    """
    read = [(block, _named(block, directory)) for block in blocks]
    known = {address.key(one).casefold() for one in key.branches}
    own = [
        block
        for block, named in read
        if owner in named or reader is owner or (not named and _is_of_branch(block, known))
    ]
    nameless = [block for block, _ in read if not _has_address(block)]
    for block in (*own, *nameless) if own or len(nameless) == len(read) else ():
        yield ReportTarget(block, owner, key.trust, onward=_is_onward(block, owner, directory) and reader is not owner)


def _under_message_id(
    blocks: Iterable[ReportedRecipient], key: MatchKey, directory: Directory, reader: Candidate | None
) -> Iterator[ReportTarget]:
    """Yield the targets of a report that only a Message-ID leads here: to the recipients it names, or the only one.

    An MDN that names nobody we know, but whose From is one of several recipients, is a guess: weak.
    """
    for block in blocks:
        named = _named(block, directory)
        if key.only:
            yield ReportTarget(block, key.only, key.trust, onward=_is_onward(block, key.only, directory) and not reader)
        elif named:
            for one in named:
                yield ReportTarget(block, one, key.trust, onward=_is_onward(block, one, directory))
        elif reader:
            yield ReportTarget(block, reader, Trust.WEAK, onward=False)


def _named(block: ReportedRecipient, directory: Directory) -> list[Candidate]:
    """Return the recipients of ours that *block* names, each once."""
    found = (directory.find(text) for text in (block.original_recipient, block.final_recipient, *block.aliases))
    return list(dict.fromkeys(one for one in found if one))


def _is_of_branch(block: ReportedRecipient, known: Container[str]) -> bool:
    final = block.final_recipient or block.original_recipient
    return final is not None and address.key(final).casefold() in known


def _has_address(block: ReportedRecipient) -> bool:
    return bool(block.final_recipient or block.original_recipient or block.aliases)


def _is_onward(block: ReportedRecipient, at: Candidate, directory: Directory) -> bool:
    """Whether the report's final recipient is another than the address we sent to."""
    final = block.final_recipient or block.original_recipient
    return final is not None and directory.find(final) is not at
