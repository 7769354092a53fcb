"""receiptd check against a real Postfix and a real Dovecot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from receiptd import check
from tests.receiver import Receiver
from tests.servers.world import World


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    with closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def daemon(world: World, endpoint: Receiver, tmp_path: Path) -> Path:
    """Return the settings of a sender at a.test."""
    address = world.new_receipts_address()
    for name, secret in {"password": world.password, "hook": "whsec_" + "MDEy" * 8}.items():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(secret)
    path = tmp_path / "receiptd.toml"
    path.write_text(f"""
        [service]
        database = "sqlite:///receiptd.db"
        listen = [{{unix = "api.sock"}}]
        [submission]
        url = "{world.relay.url(address)}"
        password_file = "password"
        ca_file = "{world.ca_file}"
        [receipts]
        address = "{address}"
        [[mailbox]]
        url = "{world.imap.url(address)}"
        password_file = "password"
        ca_file = "{world.ca_file}"
        [[webhook]]
        name = "ops"
        url = "{endpoint.url("ops")}"
        secret_file = "hook"
    """)
    return path


@pytest.mark.parametrize(
    ("address", "told"),
    [("bob@box.test", "delivered: "), ("bob@b.test", "relayed: "), ("team@box.test", "expanded: ")],
)
def test_a_round_trip_tells_how_much_a_domain_can_prove(
    daemon: Path, capsys: pytest.CaptureFixture[str], address: str, told: str
) -> None:
    assert check.run(daemon, address) == os.EX_OK
    shown = capsys.readouterr().out
    assert "FAIL" not in shown
    assert f"OK    round trip {told}" in shown
    assert "TLSv1.3" in shown


def test_a_recipient_that_the_relay_refuses_is_told_with_the_reason(
    daemon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.run(daemon, "forbidden@b.test") == 1
    assert "FAIL  round trip the relay won't take a message to forbidden@b.test" in capsys.readouterr().out


def test_a_wrong_password_fails_at_relay_and_mailbox(daemon: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (daemon.parent / "password").write_text("wrong")
    assert check.run(daemon) == 1
    shown = capsys.readouterr().out
    assert "FAIL  relay" in shown
    assert "FAIL  mailbox" in shown
