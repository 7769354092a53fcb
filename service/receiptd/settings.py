"""receiptd.toml, environment and systemd credentials, read into one frozen object."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from receiptd import duration
from receiptd.facts import Level, Trust


def _as_duration(value: object) -> object:
    return duration.parse(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_as_duration), PlainSerializer(duration.show, return_type=str)]


class Section(BaseModel):
    """A table of receiptd.toml: frozen, and a stranger's key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Listen(Section):
    """One socket of the HTTP API: a Unix path with mode, group and scope, or a TCP address."""

    unix: Path | None = None
    tcp: str | None = None
    mode: str = "0660"
    group: str | None = None
    scope: Literal["send", "operate"] = "operate"


class OAuth(Section):
    """Where an XOAUTH2 access token comes from: a command, a file, or a grant at *token_url*."""

    token_command: str | None = None
    token_file: Path | None = None
    token_url: str | None = None
    client_id: str | None = None
    client_secret_file: Path | None = None
    refresh_token_file: Path | None = None
    scope: str | None = None


class Service(Section):
    database: str = "sqlite:////var/lib/receiptd/receiptd.db"
    listen: tuple[Listen, ...] = (
        Listen(unix=Path("/run/receiptd/send.sock"), mode="0666", scope="send"),
        Listen(unix=Path("/run/receiptd/api.sock"), mode="0660", scope="operate"),
    )
    max_message: int = 50 * 1024 * 1024
    max_report: int = 50 * 1024 * 1024


class Submission(Section):
    url: str
    password_file: Path | None = None
    oauth: OAuth | None = None
    ca_file: Path | None = None
    connections: int = Field(default=10, ge=1, le=100)
    rate: str | None = None
    submit_within: Duration = timedelta(hours=1)
    give_up: Duration = timedelta(days=5)
    uncertain_wait: Duration = timedelta(minutes=15)
    without_dsn: Literal["note", "refuse"] = "note"


class Receipts(Section):
    address: str
    subaddress: Literal["+", "-", "@", ""] = "+"
    notify: tuple[Literal["success", "failure", "delay"], ...] = ("success", "failure")
    ret: Literal["hdrs", "full"] = "hdrs"
    mdn: Literal["always", "required", "never"] = "always"
    mdn_never: tuple[str, ...] = ()


class MailboxSettings(Section):
    name: str = "receipts"
    url: str
    password_file: Path | None = None
    oauth: OAuth | None = None
    ca_file: Path | None = None
    folders: tuple[str, ...] = ("INBOX", "Junk")
    role: Literal["receipts", "replies"] = "receipts"
    poll: Duration = timedelta(seconds=60)
    idle: bool = True
    after: str = "keep"
    authserv_id: str | None = None


class EscalationLevel(Section):
    after: Duration = timedelta(0)
    to: tuple[str, ...]


class DomainException(Section):
    name: str
    require: Level | None = None
    within: Duration | None = None


class PolicySettings(Section):
    require: Level = Level.RELAYED
    within: Duration = timedelta(hours=4)
    minimum_trust: Trust | None = None
    """None: keyed, or plausible where `subaddress = ""` (docs/design.md §5)."""
    onward: bool = False
    levels: tuple[EscalationLevel, ...] = ()
    """Empty: one level at once, to every webhook."""
    domain: tuple[DomainException, ...] = ()


class WebhookSettings(Section):
    name: str
    url: str
    secret_file: Path
    events: tuple[str, ...] = ("receipt.*", "monitor.*")
    omit: tuple[Literal["subject", "address"], ...] = ()


class Settings(Section):
    """Every setting, checked; secrets are named by file and read where they are used."""

    service: Service = Service()
    submission: Submission
    receipts: Receipts
    mailbox: tuple[MailboxSettings, ...]
    policy: dict[str, PolicySettings]
    webhook: tuple[WebhookSettings, ...]
