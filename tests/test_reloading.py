"""What of new settings a running daemon takes over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from receiptd.settings import Reloaded, Settings, take_over
from receiptd.smtp.rate import SlidingWindow
from tests.steps_fixture import settings_in


def _taken(folder: Path, **changes: Any) -> tuple[Settings, Reloaded]:
    old = settings_in(folder)
    return old, take_over(old, settings_in(folder, **changes))


def test_what_is_the_same_changes_nothing(tmp_path: Path) -> None:
    old, reloaded = _taken(tmp_path)
    assert reloaded == Reloaded(old, (), ())


@pytest.mark.parametrize("name", ["policy", "mailbox", "webhook"])
def test_policies_mailboxes_and_webhooks_are_taken_over_as_a_whole(tmp_path: Path, name: str) -> None:
    box = {"name": "other", "url": "imaps://r%40a.test@127.0.0.1", "password_file": str(tmp_path / "password")}
    hook = {"url": "http://127.0.0.1:1/x", "secret_file": str(tmp_path / "secret")}
    new: dict[str, Any] = {
        "policy": {"default": {"within": "1h"}, "slow": {}},
        "mailbox": [box],
        "webhook": [{"name": one, **hook} for one in ("ops", "boss", "third")],
    }
    old, reloaded = _taken(tmp_path, **{name: new[name]})
    assert (reloaded.changed, reloaded.need_restart) == ((name,), ())
    assert getattr(reloaded.settings, name) != getattr(old, name)
    assert getattr(reloaded.settings, name) == getattr(settings_in(tmp_path, **{name: new[name]}), name)


def test_what_connections_and_sockets_were_made_of_stays_and_is_named_again_each_time(tmp_path: Path) -> None:
    submission = {"url": "smtp://127.0.0.1:26", "rate": "3/m", "give_up": "1d"}
    receipts = {"address": "other@a.test", "mdn": "never"}
    old, reloaded = _taken(tmp_path, submission=submission, receipts=receipts)
    assert reloaded.changed == ("submission.rate", "submission.give_up", "receipts.mdn")
    assert reloaded.need_restart == ("submission.url", "receipts.address")
    assert reloaded.settings.submission.url == old.submission.url
    assert reloaded.settings.submission.rate == "3/m"
    again = take_over(reloaded.settings, settings_in(tmp_path, submission=submission, receipts=receipts))
    assert (again.changed, again.need_restart) == ((), reloaded.need_restart)


def test_a_window_of_another_size_keeps_its_starts() -> None:
    window = SlidingWindow(2, 60)
    assert [window.reserve(0), window.reserve(0)] == [0, 0]
    smaller, larger = window.resized(1, 60), window.resized(3, 60)
    assert smaller.reserve(1) == 60
    assert [larger.reserve(1), larger.reserve(1)] == [1, 60]
