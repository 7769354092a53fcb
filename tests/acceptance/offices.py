"""Offices whose relay and mailbox are the real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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


_PASSWORD = 'password_file = "password"'


@contextmanager
def office_in(
    world: World,
    *,
    address: str | None = None,
    relay: str | None = None,
    relay_login: str = _PASSWORD,
    submission: str = "",
    receipts: str = "",
    mailbox: str | None = None,
    box_login: str = _PASSWORD,
    box: str = "",
    boss: str = "",
    secrets: Mapping[str, str] | None = None,
    start: bool = True,
) -> Iterator[Office]:
    """Open an office with a receipts mailbox of its own.

    *relay* and *mailbox* are URLs (default: STARTTLS and TLS, by password); *submission*, *receipts*, *box* and *boss*
    are further lines of its settings, a `{` in them written twice.
    """
    address = address or world.new_receipts_address()
    values = {
        "LOGIN": relay_login,
        _PASSWORD: box_login,
        "RELAY": relay or world.relay.url(address),
        "MAILBOX": mailbox or world.imap.url(address),
        "ADDRESS": address,
        "CA": str(world.ca_file),
        "SUBMISSION": submission,
        "RECEIPTS": receipts,
        "BOX": box,
    }
    words = re.compile("|".join(values))  # all in one pass: an access token may hold any of them
    settings = words.sub(lambda found: values[found.group()], SETTINGS.replace(_PASSWORD, "LOGIN", 1))
    with opened(f"{settings}{boss}\n", {"password": world.password, **(secrets or {})}, start=start) as office:
        yield office
