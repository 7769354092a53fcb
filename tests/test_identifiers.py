"""Ids are what the database refuses a second of, so the same fact has the same one in every version."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from receiptd.facts import Level, Trust
from receiptd.identifiers import NAMESPACE, id_of


@given(st.lists(st.text() | st.integers()))
def test_the_id_of_a_fact_is_a_uuid_of_version_5(parts: list[str | int]) -> None:
    assert id_of(*parts) == uuid.uuid5(NAMESPACE, "\x1f".join(map(str, parts))).hex


def test_a_rank_is_the_place_in_the_order_of_definition() -> None:
    for ranked in (Level, Trust):
        assert [word.rank for word in ranked] == list(range(len(ranked)))
    assert Level.DELIVERED.at_least(Level.RELAYED)
    assert not Level.RELAYED.at_least(Level.DELIVERED)
