"""Exim and OpenSMTPD as recipients' servers, and aliases: what they report is counted as what it means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.offices import office_in
from tests.office import Json, Office
from tests.servers.world import World

pytestmark = pytest.mark.servers

# Recipient, what is required, and the delivery and receipt it must come to.
FATES = {
    "a mailbox at Exim, which it cannot tell from a redirect": ("alice@exim.test", "relayed", "relayed", "met"),
    "no such user at Exim": ("nosuch@exim.test", "relayed", "failed", "failed"),
    "a redirect at Exim to a server that takes it": ("forward@exim.test", "relayed", "relayed", "met"),
    "a redirect at Exim to nobody": ("gone@exim.test", "relayed", "failed", "failed"),
    "a redirect at Exim that expires": ("waiting@exim.test", "delivered", "failed", "failed"),
    "a mailbox at OpenSMTPD": ("alice@osmtpd.test", "delivered", "delivered", "met"),
    "no such user at OpenSMTPD": ("nosuch@osmtpd.test", "relayed", "failed", "failed"),
    "a redirect at OpenSMTPD to nobody": ("gone@osmtpd.test", "relayed", "failed", "failed"),
    "a redirect at OpenSMTPD that expires": ("waiting@osmtpd.test", "relayed", "failed", "failed"),
    "an alias with two members": ("team@box.test", "relayed", "expanded", "met"),
    "a forwarded address": ("forward@box.test", "relayed", "expanded", "met"),
    "a domain of aliases": ("anything@alias.test", "relayed", "expanded", "met"),
}


@pytest.fixture(scope="module")
def office(world: World) -> Iterator[Office]:
    with office_in(world) as office:
        yield office


@pytest.fixture(scope="module")
def letters(office: Office) -> dict[str, str]:
    """Send all letters before any of them is awaited."""
    return {fate: office.send(to, options=("--require", require)) for fate, (to, require, *_) in FATES.items()}


@pytest.mark.parametrize("fate", FATES)
def test_a_letter_meets_its_fate(office: Office, letters: dict[str, str], fate: str) -> None:
    *_, delivery, receipt = FATES[fate]

    def has_met_it(recipient: Json) -> bool:
        return (recipient["delivery"], recipient["receipt"]) == (delivery, receipt)

    office.wait(letters[fate], has_met_it, within=30)


def test_exims_delivered_for_a_redirect_is_no_delivery(office: Office, letters: dict[str, str]) -> None:
    shown = office.message(letters["a redirect at Exim to a server that takes it"])
    relayed = next(event for event in shown["events"] if event["kind"] == "relayed")
    assert relayed["detail"]["stated_action"] == "delivered"


def test_opensmtpds_end_of_queue_time_is_a_failure(office: Office, letters: dict[str, str]) -> None:
    shown = office.message(letters["a redirect at OpenSMTPD that expires"])
    failed = next(event for event in shown["events"] if event["kind"] == "failed")
    assert failed["detail"]["stated_action"] == "delayed"


def test_a_failed_branch_of_an_alias_is_told_as_that(office: Office) -> None:
    office.send("mixed@box.test")
    alert = office.receiver.wait_for("receipt.failed", address="mixed@box.test")
    assert "one branch" in alert.data["reason"].lower()
