"""Every setting, its type, its default and what must hold between settings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, field_validator, model_validator

from receiptd import correlation_token
from receiptd.facts import Level, Trust
from receiptd.settings.values import (
    DatabaseUrl,
    Duration,
    LocalPath,
    Name,
    Rate,
    SecretFile,
    Size,
    check_account_url,
    check_after,
    check_event_pattern,
    check_mode,
    check_tcp,
    check_web_url,
    checked,
    parse_rate,
)

SUBMISSION_SCHEMES = ("submission", "submissions", "smtp")
MAILBOX_SCHEMES = ("imaps", "imap+starttls")
_LONGEST_LOCAL_PART = 64  # RFC 5321 §4.5.3.1.1


def _submission_url(url: str) -> str:
    return check_account_url(url, SUBMISSION_SCHEMES)


def _mailbox_url(url: str) -> str:
    return check_account_url(url, MAILBOX_SCHEMES, plain=("imap",))


def _repeated(names: Iterable[str]) -> str | None:
    return next((name for name, times in Counter(names).items() if times > 1), None)


class Section(BaseModel):
    """A table of receiptd.toml: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Listen(Section):
    """One socket of the HTTP API: a Unix path with mode, group and scope, or a TCP address."""

    unix: LocalPath | None = None
    tcp: Annotated[str, checked(check_tcp)] | None = None
    mode: Annotated[str, checked(check_mode)] = "0660"
    group: str | None = None
    scope: Literal["send", "operate"] = "operate"

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.unix is None) == (self.tcp is None):
            raise ValueError('a socket has one address, either unix = "/run/…" or tcp = "host:port"')
        if self.tcp and self.model_fields_set & {"mode", "group", "scope"}:
            raise ValueError("mode, group and scope belong to a Unix socket; over TCP a [[service.token]] decides")
        return self


class ApiToken(Section):
    """Who may use the HTTP API over TCP: a bearer token and what it may do."""

    name: Name
    secret_file: SecretFile
    scopes: tuple[Literal["send", "read", "operate"], ...] = ("send",)


class OAuth(Section):
    """Where an XOAUTH2 access token comes from: a command, a file, or a grant at *token_url*."""

    token_command: str | None = None
    token_file: SecretFile | None = None
    token_url: Annotated[str, checked(check_web_url)] | None = None
    client_id: str | None = None
    client_secret_file: SecretFile | None = None
    refresh_token_file: SecretFile | None = None
    scope: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [source for source in (self.token_command, self.token_file, self.token_url) if source is not None]
        if len(given) != 1:
            raise ValueError("give one of token_command, token_file and token_url")
        if self.token_url and not (self.client_id and (self.client_secret_file or self.refresh_token_file)):
            raise ValueError("token_url needs client_id and client_secret_file or refresh_token_file")
        return self


class Service(Section):
    """The daemon itself: its database, its sockets, its bounds."""

    database: DatabaseUrl = "sqlite:////var/lib/receiptd/receiptd.db"
    listen: tuple[Listen, ...] = (
        Listen(unix=Path("/run/receiptd/send.sock"), mode="0666", scope="send"),
        Listen(unix=Path("/run/receiptd/api.sock"), mode="0660", scope="operate"),
        Listen(tcp="127.0.0.1:8025"),
    )
    max_message: Annotated[Size, Field(ge=1024)] = 50 << 20
    max_report: Annotated[Size, Field(ge=1024)] = 50 << 20
    max_evidence: Size = 5 << 20
    messages_per_hour: int = Field(default=10_000, ge=1)
    bytes_per_hour: Annotated[Size, Field(ge=1024)] = 2 << 30
    token: tuple[ApiToken, ...] = ()


class Account(Section):
    """A URL with a user in it, and what that user logs in with."""

    url: str
    password_file: SecretFile | None = None
    oauth: OAuth | None = None
    ca_file: SecretFile | None = None

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if self.password_file and self.oauth:
            raise ValueError("give password_file or oauth, not both")
        has_secret = bool(self.password_file or self.oauth)
        if has_secret and not self.user:
            raise ValueError("the URL names no user: write scheme://user@host ('@' inside the user as %40)")
        if self.user and not has_secret:
            raise ValueError("the URL names a user: give password_file or oauth to log in with")
        return self

    @property
    def user(self) -> str | None:
        """The user as it stands in the URL, still percent-encoded."""
        return urlsplit(self.url).username


class Submission(Account):
    """The submission server that takes our messages, and how long we try."""

    url: Annotated[str, checked(_submission_url)]
    connections: int = Field(default=10, ge=1, le=100)
    rate: Rate | None = None
    submit_within: Duration = timedelta(hours=1)
    give_up: Duration = timedelta(days=5)
    uncertain_wait: Duration = timedelta(minutes=15)
    without_dsn: Literal["note", "refuse"] = "note"

    @property
    def rate_limit(self) -> tuple[int, timedelta] | None:
        """How many messages in how long, or None for as many as the server takes."""
        return parse_rate(self.rate) if self.rate else None


class Receipts(Section):
    """Where reports shall come back to, and which ones we ask for."""

    address: str
    subaddress: Literal["+", "-", "@", ""] = "+"
    notify: tuple[Literal["success", "failure", "delay"], ...] = ("success", "failure")
    ret: Literal["hdrs", "full"] = "hdrs"
    mdn: Literal["always", "required", "never"] = "always"
    mdn_never: tuple[str, ...] = ()

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*/=?^_`{|}~.+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", address):
            raise ValueError(f"{address!r} is no plain mail address like receipts@example.org")
        return address

    @field_validator("notify")
    @classmethod
    def _asks_for_failures(cls, notify: tuple[str, ...]) -> tuple[str, ...]:
        # NOTIFY=SUCCESS alone also becomes NEVER behind a Postfix alias.
        if "failure" not in notify:
            raise ValueError('"failure" must be in it: nobody would hear of a message that bounced')
        return notify

    @model_validator(mode="after")
    def _leaves_room_for_a_token(self) -> Self:
        room = _LONGEST_LOCAL_PART - correlation_token.LENGTH - len(self.subaddress)
        if self.subaddress in ("+", "-") and len(self.address.partition("@")[0]) > room:
            raise ValueError(
                f"the part of address before '@' is longer than {room} characters, no room for a token behind it"
            )
        return self


class MailboxSettings(Account):
    """An IMAP mailbox that reports (or people's answers) come to."""

    name: Name = "receipts"
    url: Annotated[str, checked(_mailbox_url)]
    folders: tuple[str, ...] = ("INBOX", "Junk")
    role: Literal["receipts", "replies"] = "receipts"
    poll: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=60)
    idle: bool = True
    after: Annotated[str, checked(check_after)] = "keep"
    authserv_id: str | None = None

    @field_validator("folders")
    @classmethod
    def _some_folder_once(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        if not folders or _repeated(folders):
            raise ValueError("name at least one folder, and each once")
        return folders

    @property
    def names_folders(self) -> bool:
        """Whether the settings name the folders: of the default's, Junk may be missing."""
        return "folders" in self.model_fields_set

    @model_validator(mode="after")
    def _has_a_user(self) -> Self:
        if not self.user:
            raise ValueError("the URL names no user: write imaps://user@host ('@' inside the user as %40)")
        return self


class EscalationLevel(Section):
    """Who is told, how long after an incident began."""

    after: Duration = timedelta(0)
    to: Annotated[tuple[str, ...], Field(min_length=1)]


class DomainException(Section):
    """What a recipient's domain can or can't give."""

    name: str
    require: Level | None = None
    within: Duration | None = None

    @field_validator("name")
    @classmethod
    def _folded(cls, name: str) -> str:
        return name.strip().lstrip("@").lower()


class PolicySettings(Section):
    """What is required, by when, and who is told if it does not come."""

    require: Level = Level.RELAYED
    within: Annotated[Duration, Field(gt=timedelta(0))] = timedelta(hours=4)
    minimum_trust: Trust | None = None
    """None: keyed, or plausible where `subaddress = ""` (docs/design.md §5)."""
    onward: bool = False
    levels: tuple[EscalationLevel, ...] = ()
    """Empty: one level at once, to every webhook."""
    domain: tuple[DomainException, ...] = ()

    @field_validator("minimum_trust")
    @classmethod
    def _can_be_had(cls, trust: Trust | None) -> Trust | None:
        if trust is Trust.SEALED:
            raise ValueError(
                "no read receipt or answer is ever sealed, and some servers give no envelope id back: write keyed"
            )
        return trust

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        steps = [level.after for level in self.levels]
        if steps != sorted(set(steps)):
            raise ValueError("each level must come after the one before it")
        if twice := _repeated(exception.name for exception in self.domain):
            raise ValueError(f"domain {twice!r} stands there twice")
        return self


class WebhookSettings(Section):
    """One endpoint that alerts are sent to."""

    name: Name
    url: Annotated[str, checked(check_web_url)]
    secret_file: SecretFile
    events: Annotated[tuple[Annotated[str, checked(check_event_pattern)], ...], Field(min_length=1)] = (
        "receipt.*",
        "monitor.*",
    )
    omit: tuple[Literal["subject", "address"], ...] = ()


Policies = Annotated[Mapping[Name, PolicySettings], PlainSerializer(dict, return_type=dict[str, PolicySettings])]


class Settings(Section):
    """Every setting, checked; secrets are named by file and read where they are used."""

    service: Service = Service()
    submission: Submission
    receipts: Receipts
    mailbox: tuple[MailboxSettings, ...] = ()
    policy: Policies = {}
    webhook: tuple[WebhookSettings, ...] = ()

    @field_validator("policy")
    @classmethod
    def _default_always_exists(cls, policies: Mapping[str, PolicySettings]) -> Mapping[str, PolicySettings]:
        return MappingProxyType({"default": PolicySettings(), **policies})

    @field_validator("mailbox")
    @classmethod
    def _somewhere_for_reports(cls, mailboxes: tuple[MailboxSettings, ...]) -> tuple[MailboxSettings, ...]:
        if not any(mailbox.role == "receipts" for mailbox in mailboxes):
            raise ValueError('there is no [[mailbox]] with role "receipts": reports could not be read')
        return mailboxes

    @field_validator("webhook")
    @classmethod
    def _somebody_is_told(cls, webhooks: tuple[WebhookSettings, ...]) -> tuple[WebhookSettings, ...]:
        if not webhooks:
            raise ValueError("there is no [[webhook]]: nobody would be told; add one with name, url and secret_file")
        return webhooks

    @model_validator(mode="after")
    def _names_hold(self) -> Self:
        for table, named in (
            ("mailbox", self.mailbox),
            ("webhook", self.webhook),
            ("service.token", self.service.token),
        ):
            if twice := _repeated(entry.name for entry in named):
                raise ValueError(f"two [[{table}]] have the name {twice!r}; give each its own")
        known = {webhook.name for webhook in self.webhook}
        for name, policy in self.policy.items():
            for to in (to for level in policy.levels for to in level.to if to not in known):
                raise ValueError(f"policy.{name}.levels names the webhook {to!r}; there are {', '.join(sorted(known))}")
        return self

    def is_shared(self, mailbox: MailboxSettings) -> bool:
        """Whether people use *mailbox* too: then only what is meant for us is fetched, and nothing else is touched."""
        return mailbox.role == "replies" or not self.receipts.subaddress
