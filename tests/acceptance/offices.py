"""Offices whose relay and mailbox are the real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.office import Office, opened
from tests.servers.world import World

SETTINGS = """
[service]
database = "sqlite:///{folder}/receiptd.db"
listen = [
  {{unix = "{folder}/send.sock", mode = "0666", scope = "send"}},
  {{unix = "{folder}/api.sock", mode = "0660", scope = "operate"}},
]

[submission]
url = "RELAY"
password_file = "password"
ca_file = "CA"
SUBMISSION

[receipts]
address = "ADDRESS"
RECEIPTS

[[mailbox]]
name = "receipts"
url = "MAILBOX"
password_file = "password"
ca_file = "CA"
poll = "1s"
BOX

[policy.default]
within = "1m"
levels = [{{after = "0s", to = ["ops"]}}, {{after = "3s", to = ["ops", "boss"]}}]

[[webhook]]
name = "ops"
url = "{ops_url}"
secret_file = "webhook"

[[webhook]]
name = "boss"
url = "{boss_url}"
secret_file = "webhook"
"""


@contextmanager
def office_in(
    world: World, *, submission: str = "", receipts: str = "", box: str = "", start: bool = True
) -> Iterator[Office]:
    """Open an office with a receipts mailbox of its own; the arguments are further lines of its settings."""
    address = world.new_receipts_address()
    settings = SETTINGS
    for word, value in {
        "RELAY": world.relay.url(address),
        "MAILBOX": world.imap.url(address),
        "ADDRESS": address,
        "CA": str(world.ca_file),
        "SUBMISSION": submission,
        "RECEIPTS": receipts,
        "BOX": box,
    }.items():
        settings = settings.replace(word, value)
    with opened(settings, {"password": world.password}, start=start) as office:
        yield office
