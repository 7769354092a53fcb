"""Spellings of one address compare equal; different addresses do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiptd import address


@pytest.mark.parametrize(
    "spelling",
    ["tür@straße.de", "tür@STRASSE.DE", r"t\x{FC}r@straße.de", "<tür@straße.de>", "tür@xn--strae-oqa.de."],
)
def test_the_forms_of_rfc_6533_and_idn_are_one_address(spelling: str) -> None:
    if "SS" in spelling:
        assert address.key(spelling) != address.key("tür@straße.de")  # IDNA 2008: another domain
    else:
        assert address.key(spelling) == "tür@xn--strae-oqa.de"


def test_the_local_part_is_its_servers_to_fold() -> None:
    assert address.key("Bob@B.ORG") == "Bob@b.org"
    assert address.same("Bob@B.ORG", "bob@b.org")
    assert not address.same("bob@b.org", "bob@c.org")


@given(st.text(max_size=60))
def test_any_text_has_a_key_that_is_stable(text: str) -> None:
    assert address.key(text) == address.key(text)
