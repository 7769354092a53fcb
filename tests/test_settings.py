"""A good file is one frozen object; a bad one gets a sentence that names the setting and what would be right."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from receiptd import settings
from receiptd.errors import BadSettings
from receiptd.facts import Level, Trust

COMMENTED = Path(__file__).parent.parent / "config" / "receiptd.toml"
MINIMAL = """
[submission]
url = "submission://me%40a.org@mail.a.org"
password_file = "relay"
[receipts]
address = "receipts@a.org"
[[mailbox]]
url = "imaps://receipts%40a.org@mail.a.org"
password_file = "mailbox"
[[webhook]]
name = "ops"
url = "https://a.org/hook"
secret_file = "hook"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "receiptd.toml"
    path.write_text(text)
    return path


def loaded(tmp_path: Path, text: str = MINIMAL, **environ: str) -> settings.Settings:
    return settings.load(written(tmp_path, text), environ)


def refusal(tmp_path: Path, text: str = MINIMAL, **environ: str) -> str:
    path = written(tmp_path, text)
    with pytest.raises(BadSettings) as refused:
        settings.load(path, environ)
    assert refused.value.exit_status == 78
    return str(refused.value).replace(f"{path}: ", "")


# What a good file gives


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    got = loaded(tmp_path)
    assert got.submission.give_up == timedelta(days=5)
    assert got.receipts.notify == ("success", "failure")
    assert got.policy["default"].require is Level.RELAYED
    assert got.service.max_message == 50 * 1024 * 1024


def test_policy_default_always_exists(tmp_path: Path) -> None:
    got = loaded(tmp_path, MINIMAL + '[policy.contract]\nrequire = "displayed"\n')
    assert set(got.policy) == {"default", "contract"}


def test_nothing_can_be_changed_afterwards(tmp_path: Path) -> None:
    got = loaded(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        got.submission.connections = 1
    with pytest.raises(TypeError):
        got.policy["x"] = got.policy["default"]  # type: ignore[index]


def test_a_rate_is_a_count_and_a_time(tmp_path: Path) -> None:
    assert loaded(tmp_path).submission.rate_limit is None
    assert loaded(tmp_path, RECEIPTD_SUBMISSION__RATE="30/m").submission.rate_limit == (30, timedelta(minutes=1))


def test_domains_of_exceptions_are_compared_in_lower_case(tmp_path: Path) -> None:
    text = MINIMAL + '[[policy.default.domain]]\nname = "B.Org"\nrequire = "accepted"\n'
    assert loaded(tmp_path, text).policy["default"].domain[0].name == "b.org"


def test_minimum_trust_is_left_to_the_policy_where_it_is_not_said(tmp_path: Path) -> None:
    assert loaded(tmp_path).policy["default"].minimum_trust is None
    told = loaded(tmp_path, RECEIPTD_POLICY__DEFAULT__MINIMUM_TRUST="plausible")
    assert told.policy["default"].minimum_trust is Trust.PLAUSIBLE


# Where the file and the values come from


def test_the_file_is_found_in_the_order_people_expect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSettings, match="there is no settings file"):
        settings.find(None, {})
    here = written(tmp_path, MINIMAL)
    assert settings.find(None, {}).resolve() == here
    assert settings.find(None, {"RECEIPTD_CONFIG": "/x"}) == Path("/x")
    assert settings.find(Path("/y"), {"RECEIPTD_CONFIG": "/x"}) == Path("/y")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"nowhere\.toml can't be read: No such file"):
        settings.load(tmp_path / "nowhere.toml", {})


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    got = loaded(
        tmp_path,
        RECEIPTD_SUBMISSION__CONNECTIONS="3",
        RECEIPTD_RECEIPTS__NOTIFY='["failure"]',
        RECEIPTD_RECEIPTS__SUBADDRESS="",
        RECEIPTD_POLICY__CONTRACT__WITHIN="3d",
        RECEIPTD_WEBHOOK='[{name = "boss", url = "http://127.0.0.1/", secret_file = "x"}]',
        RECEIPTD_CONFIG="is no setting",
        RECEIPTD_REQUIRE_ALL="1",
    )
    assert (got.submission.connections, got.receipts.notify, got.receipts.subaddress) == (3, ("failure",), "")
    assert got.policy["contract"].within == timedelta(days=3)
    assert [webhook.name for webhook in got.webhook] == ["boss"]


def test_an_unknown_variable_is_an_error_like_an_unknown_key(tmp_path: Path) -> None:
    assert "did you mean submission.url" in refusal(tmp_path, RECEIPTD_SUBMISSION__URI="smtp://a")


def test_a_variable_can_not_reach_into_a_list(tmp_path: Path) -> None:
    assert "give the whole list $RECEIPTD_MAILBOX" in refusal(tmp_path, RECEIPTD_MAILBOX__URL="imaps://a")


# Paths


@pytest.mark.parametrize("folder", ["here", "else where"])
def test_a_relative_path_lies_beside_the_settings_wherever_they_are_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / folder)
    text = '[service]\ndatabase = "sqlite:///receiptd.db"\nlisten = [{unix = "api.sock"}]\n' + MINIMAL
    written(tmp_path / "here", text)
    got = settings.load(Path(os.path.relpath(tmp_path / "here" / "receiptd.toml")), {})
    assert Path(got.service.database.removeprefix("sqlite:///")).resolve() == tmp_path / "here" / "receiptd.db"
    assert (got.service.listen[0].unix or Path()).resolve() == tmp_path / "here" / "api.sock"
    assert got.service.database.startswith("sqlite:////")


@pytest.mark.parametrize("url", ["sqlite:////a/b.db", "sqlite:///:memory:", "postgresql:///receiptd"])
def test_a_database_that_is_no_relative_file_is_left_as_it_is(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, f'[service]\ndatabase = "{url}"\n' + MINIMAL).service.database == url


# Secrets


def test_a_secret_is_looked_for_among_the_credentials_then_beside_the_file(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "relay").write_text("from systemd\n")
    (tmp_path / "mailbox").write_text("from beside\n")
    got = loaded(tmp_path, CREDENTIALS_DIRECTORY=str(credentials))
    assert got.submission.password_file == credentials / "relay"
    assert got.mailbox[0].password_file == tmp_path / "mailbox"
    assert settings.read_secret(credentials / "relay") == "from systemd"


def test_credentials_that_can_not_be_seen_are_named_rather_than_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(Path, "exists", deny)
    got = loaded(tmp_path, CREDENTIALS_DIRECTORY="/run/credentials/receiptd.service")
    assert got.submission.password_file == Path("/run/credentials/receiptd.service/relay")


def test_a_secret_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"relay can't be read: No such file"):
        settings.read_secret(tmp_path / "relay")
    (tmp_path / "relay").write_text(" \n")
    with pytest.raises(BadSettings, match=r"relay is empty"):
        settings.read_secret(tmp_path / "relay")
    (tmp_path / "relay").write_bytes(b"\xff")
    with pytest.raises(BadSettings, match="not text in UTF-8"):
        settings.read_secret(tmp_path / "relay")


def test_an_api_token_that_may_be_guessed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("x" * 23 + "\n")
    with pytest.raises(BadSettings, match="fewer than 24 characters") as refused:
        settings.read_token(path)
    assert refused.value.exit_status == 78
    path.write_text("x" * 24)
    assert settings.read_token(path) == "x" * 24


def test_what_is_shown_hides_secrets_and_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    text = MINIMAL.replace('password_file = "mailbox"', 'oauth = {token_command = "token --key s3cret"}')
    got = loaded(tmp_path, text + '[[policy."default".domain]]\nname = "b.org"\n')
    shown = settings.show(got)
    assert "s3cret" not in shown
    assert 'token_command = "token …"' in shown
    told = shown.replace("token …", "token --key s3cret").replace("https://a.org/…", "https://a.org/hook")
    again = settings.load(written(tmp_path, told), {})
    assert again == got


def test_a_password_inside_a_url_is_hidden(tmp_path: Path) -> None:
    shown = settings.show(
        loaded(
            tmp_path,
            RECEIPTD_SERVICE__DATABASE="postgresql://receiptd:s3/cr:et@db/receiptd?password=s3cret",
            RECEIPTD_WEBHOOK='[{name = "a", url = "https://u:s3cret@a.org/x?key=s3cret", secret_file = "x"}]',
        )
    )
    assert "s3" not in shown
    assert "postgresql://receiptd:…@db/receiptd?password=…" in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.slack.com/services/T0/s3cret", "https://hooks.slack.com/…"),
        ("https://hc-ping.com/s3cret?s3cret", "https://hc-ping.com/…?…"),
        ("https://a.org?x=1;key=s3cret", "https://a.org?x=…;key=…"),
        ("https://a.org/x;key=s3cret#s3cret", "https://a.org/…#…"),
        ("https://a.org:8443/", "https://a.org:8443/"),
    ],
)
def test_a_secret_in_the_path_or_the_parameters_of_a_webhook_is_hidden(tmp_path: Path, url: str, shown: str) -> None:
    got = settings.show(loaded(tmp_path, RECEIPTD_WEBHOOK=f'[{{name = "a", url = "{url}", secret_file = "x"}}]'))
    assert f'url = "{shown}"' in got


def test_a_secret_in_a_parameter_of_a_token_endpoint_is_hidden_and_its_path_is_not(tmp_path: Path) -> None:
    grant = 'oauth = {token_url = "https://a.org/v2/token;key=s3cret", client_id = "me", client_secret_file = "x"}'
    shown = settings.show(loaded(tmp_path, MINIMAL.replace('password_file = "relay"', grant)))
    assert 'token_url = "https://a.org/v2/token;key=…"' in shown


# What a bad file gets


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://receiptd@db:port/receiptd",
        "postgresql://receiptd:s3cret@db:54x32/receiptd",
        "postgresql://db:65536/receiptd",
        "postgresql://db:0/receiptd",
        "postgresql+psycopg://[::1]:port/receiptd",
        "postgresql:///receiptd?host=/run&port=port",
    ],
)
def test_a_database_with_a_bad_port_is_a_sentence(tmp_path: Path, url: str) -> None:
    said = refusal(tmp_path, RECEIPTD_SERVICE__DATABASE=url)
    assert "service.database: the port in the database's URL must be a number from 1 to 65535" in said
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://receiptd@db:5433/receiptd",
        "postgresql://receiptd:a%40b/c:d?e@db/receiptd",
        "postgresql://[::1]:5432/x",
        "postgresql:///receiptd?host=/run&port=5433",
        "postgresql://",
    ],
)
def test_a_good_database_url_is_taken_as_it_is(tmp_path: Path, url: str) -> None:
    assert loaded(tmp_path, RECEIPTD_SERVICE__DATABASE=url).service.database == url


PASSWORD = "Tr0ub4dor"


@pytest.mark.parametrize("key", ["submission", "mailbox", "webhook", "service"])
@pytest.mark.parametrize("odd", ["", "/x", "#x", "?x", "@x", "[x", ":x", "%x"])
@pytest.mark.parametrize(
    "form", ["{scheme}me:{word}@a.org", "me:{word}@a.org", "{word}@a.org", "{word}", "http:{word}"]
)
def test_no_part_of_a_password_stands_in_any_error(tmp_path: Path, key: str, odd: str, form: str) -> None:
    """Wherever a person puts it: in the URL, with or without a scheme, with signs that end a host, or for a table."""
    scheme = {"submission": "smtp://", "mailbox": "imaps://", "webhook": "https://", "service": "postgresql://"}[key]
    value = form.format(scheme=scheme, word=PASSWORD + odd + PASSWORD)
    inside = {"mailbox": [{"url": value}], "webhook": [{"name": "a", "url": value, "secret_file": "x"}]}
    whole: Any = inside.get(key) or {"url" if key == "submission" else "database": value}
    tables = tomllib.loads(MINIMAL)
    for wrong in (whole, value):
        path = tmp_path / "receiptd.toml"
        path.write_text("")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(settings.loading, "_read", lambda _, wrong=wrong: tables | {key: wrong})
            assert PASSWORD not in _said(path)


def _said(path: Path) -> str:
    """Return what is wrong with the settings, or nothing."""
    try:
        settings.load(path, {})
    except BadSettings as fault:
        return str(fault)
    return ""


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (
            "[submission]",
            "[submission]\nconections = 3",
            "submission.conections is no setting; did you mean submission",
        ),
        ("[submission]", "[submision]\nx = 1\n[submission]", "submision is no setting; did you mean submission?"),
        (
            "[[mailbox]]",
            '[[mailbox]]\nfolder = ["INBOX"]',
            "mailbox[0].folder is no setting; did you mean mailbox[0].fo",
        ),
        ("[receipts]", '[policy.x]\nwithn = "4h"\n[receipts]', "policy.x.withn is no setting; did you mean policy.x.w"),
        ("[submission]", "[submission]\ngive_up = 5", "submission.give_up: a duration is a text with its unit"),
        ("[submission]", '[submission]\ngive_up = "5x"', "submission.give_up: '5x' is no duration"),
        ("[submission]", "[submission]\nconnections = 0", "submission.connections: input should be greater than or"),
        (
            "[submission]",
            '[submission]\nwithout_dsn = "no"',
            "submission.without_dsn: 'no' is not 'note' or 'refuse'",
        ),
        ("[submission]", '[submission]\nrate = "30 a minute"', "submission.rate: '30 a minute' is no rate"),
        ("[submission]", "[submission", "is not TOML"),
        ('url = "submission:', 'url = "http:', "submission.url: the URL must begin with submission:// or"),
        ("submission://me%40a.org@", "submission://me:pw@", "submission.url: a password has no place in the URL"),
        ("submission://me%40a.org@", "submission://", "submission: the URL names no user"),
        ('password_file = "relay"', "", "submission: the URL names a user: give password_file or oauth"),
        ('password_file = "relay"', "oauth = {}", "submission.oauth: give one of token_command, token_file and tok"),
        ("imaps://", "imap://", "mailbox[0].url: imap:// is unencrypted"),
        ("imaps://receipts%40a.org@", "imaps://", "mailbox[0]"),
        ("receipts@a.org", "receipts", "receipts.address: 'receipts' is no plain mail address"),
        ("receipts@a.org", "r" * 40 + "@a.org", "no room for a token"),
        ("[receipts]", '[receipts]\nnotify = ["success"]', 'receipts.notify: "failure" must be in it'),
        ("[[mailbox]]", '[[mailbox]]\nafter = "shred"', "mailbox[0].after: 'shred' is not one of"),
        ("[[mailbox]]", "[[mailbox]]\nfolders = []", "mailbox[0].folders: name at least one folder"),
        ("[[mailbox]]", '[[mailbox]]\nrole = "replies"', 'mailbox: there is no [[mailbox]] with role "receipts"'),
        ("[[mailbox]]", '[[mailbox]]\nname = "me@a.org"', "mailbox[0].name: 'me@a.org' is no name"),
        (
            "[[webhook]]",
            '[[webhook]]\nevents = ["receipt.lost"]',
            "'receipt.lost' takes no type of alert; ",
        ),
        ("[[webhook]]", '[[webhook]]\nevents = ["receipt.faild"]', "did you mean 'receipt.failed'? There"),
        ('url = "https://a.org/hook"', 'url = "a.org"', "webhook[0].url: the URL must begin with https:// or http"),
        (
            "[receipts]",
            '[policy.x]\nlevels = [{to = ["boss"]}]\n[receipts]',
            "policy.x.levels names the webhook 'boss'",
        ),
        (
            "[receipts]",
            '[service]\ndatabase = "mysql://a"\n[receipts]',
            "service.database: the database is sqlite:////",
        ),
        ("[receipts]", "[service]\nlisten = [{}]\n[receipts]", "service.listen[0]: a socket has one address"),
        ("[receipts]", '[service]\nlisten = [{tcp = "::"}]\n[receipts]', "service.listen[0].tcp: "),
        ("[[webhook]]", "[webhook]", "webhook: write [[webhook]], in double brackets"),
        ("[[mailbox]]", "[mailbox]", "mailbox: write [[mailbox]], in double brackets"),
        ("[receipts]", '[service.token]\nname = "x"\n[receipts]', "service.token: write [[service.token]], in double"),
        (
            "[receipts]",
            '[service]\nlisten = {unix = "/x"}\n[receipts]',
            "service.listen: write [[service.listen]], in d",
        ),
        (
            "[receipts]",
            '[policy.x.domain]\nname = "a.org"\n[receipts]',
            "policy.x.domain: write [[policy.x.domain]], i",
        ),
        ("[receipts]", '[policy.x.levels]\nto = ["ops"]\n[receipts]', "policy.x.levels: write [[policy.x.levels]], in"),
        ("[submission]", "[[submission]]", "submission: there is one: write [submission], in single brackets"),
        (
            "[receipts]",
            "[[policy]]\n[receipts]",
            "policy: each has a name of its own: write [policy.NAME], in single b",
        ),
        ("[receipts]", "[[policy.x]]\n[receipts]", "policy.x: there is one: write [policy.x], in single brackets"),
        ("[receipts]", "[webhook]\n[receipts]", "write [[webhook]], in double brackets"),
        (
            "[receipts]",
            '[receipts]\nnotify = ["sucess", "failure"]',
            "notify[0]: 'sucess' is not 'success', 'failure' or 'd",
        ),
        ("[receipts]", '[receipts]\nnotify = ["sucess", "failure"]', "; did you mean 'success'?"),
        (
            "[receipts]",
            '[receipts]\nnotify = "failure"',
            "receipts.notify: write a list, in square brackets: ['failure']",
        ),
        (
            "[[webhook]]",
            '[[webhook]]\nomit = ["subjct"]',
            "'subjct' is not 'subject' or 'address'; did you mean 'subject'?",
        ),
        (
            "[[webhook]]",
            '[[webhook]]\nevents = ["reciept.*"]',
            "takes no type of alert; did you mean 'receipt.*'? There",
        ),
        ("[[webhook]]", "[[webhook]]\nevents = []", "webhook[0].events: name at least one"),
        ("@mail.a.org", "@mail.a.org:465", "port 465 begins with TLS: write submissions:// there, not submission://"),
        (
            'submission://me%40a.org@mail.a.org"\npassword_file = "relay"',
            'smtp://mail.a.org:465"',
            "write submissions://",
        ),
        (
            "submission://me%40a.org@mail.a.org",
            "submissions://me@a.org:587",
            "port 587 begins in the clear and turns TLS on",
        ),
        ("imaps://receipts%40a.org@mail.a.org", "imaps://me@a.org:143", "write imap+starttls:// there, not imaps://"),
        (
            "imaps://receipts%40a.org@mail.a.org",
            "imap+starttls://me@a.org:993",
            "port 993 begins with TLS: write imaps://",
        ),
        ("[receipts]", '[service]\nmax_report = "1T"\n[receipts]', "service.max_report: '1T' is no size"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    tmp_path: Path, before: str, after: str, sentence: str
) -> None:
    assert before in MINIMAL
    assert sentence in refusal(tmp_path, MINIMAL.replace(before, after, 1))


def test_without_a_webhook_nobody_would_be_told(tmp_path: Path) -> None:
    assert "nobody would be told" in refusal(tmp_path, MINIMAL.partition("[[webhook]]")[0])


def test_two_of_a_name_are_refused(tmp_path: Path) -> None:
    again = MINIMAL.partition("[[webhook]]")
    assert "two [[webhook]] have the name 'ops'" in refusal(tmp_path, MINIMAL + again[1] + again[2])


def test_a_syntax_error_says_its_line(tmp_path: Path) -> None:
    assert "at line 2" in refusal(tmp_path, "[submission]\nurl = \n")


def test_unencrypted_imap_is_taken_on_this_machine(tmp_path: Path) -> None:
    got = loaded(tmp_path, MINIMAL.replace("imaps://receipts%40a.org@mail.a.org", "imap://me@127.0.0.1:1143"))
    assert got.mailbox[0].user == "me"


# config/receiptd.toml


def commented_settings(*, with_examples: bool) -> dict[str, Any]:
    """Return the file with its defaults (and, if asked for, its examples) switched on."""
    lines = []
    for line in COMMENTED.read_text().splitlines():
        is_default = re.match(r"#(\[\[|[a-z_]+ = )", line) and "# no default" not in line
        is_example = re.match(r"#[a-z_]+ = .*# no default", line)
        lines.append(line.removeprefix("#") if is_default or (is_example and with_examples) else line)
    return tomllib.loads("\n".join(lines))


def test_the_commented_file_is_good_as_it_stands_but_for_its_secrets() -> None:
    got = settings.load(COMMENTED, {})
    assert got.webhook[0].secret_file == COMMENTED.parent / "webhook-secret"


def test_every_default_in_the_commented_file_is_the_true_one() -> None:
    switched_on = commented_settings(with_examples=False)
    del switched_on["service"]["token"], switched_on["policy"]["default"]["domain"]  # nothing in them but examples
    assert settings.Settings.model_validate(switched_on) == settings.Settings.model_validate(
        tomllib.loads(COMMENTED.read_text())
    )


def test_every_setting_stands_in_the_commented_file() -> None:
    examples = commented_settings(with_examples=True)
    mailbox = examples["mailbox"][0]
    assert set(every_setting(settings.Settings)) - set(named_settings(examples)) == {
        *("submission.oauth." + key for key in settings.OAuth.model_fields if key != "token_command"),
        *("mailbox.oauth." + key for key in settings.OAuth.model_fields if key != "token_file"),
        "service.listen.group",
    }
    assert mailbox["oauth"] == {"token_file": "mailbox-token"}
    for key in settings.OAuth.model_fields:
        assert key in COMMENTED.read_text()


def test_what_the_commented_file_says_has_no_default_has_none() -> None:
    defaults, all_settings = (named_settings(commented_settings(with_examples=each)) for each in (False, True))
    fields = every_setting(settings.Settings)
    for name in set(all_settings) - set(defaults):
        if name in fields and not name.startswith("policy.levels."):  # those stand inside the example of levels
            assert fields[name].is_required() or fields[name].default in (None, ()), name


def every_setting(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Return every key as it would be written, dotted, without indices and policy names."""
    found: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        inner = settings.validation_errors._model_in(field.annotation)
        found |= every_setting(inner, f"{prefix}{key}.") if inner else {f"{prefix}{key}": field}
    return found


def named_settings(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return dict(_named(table, prefix))


def _named(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    tables = value if isinstance(value, list) else [value]
    if prefix == "policy.":
        tables = list(value.values())
    for table in tables:
        for key, inner in table.items():
            is_table = isinstance(inner, dict) or (isinstance(inner, list) and inner and isinstance(inner[0], dict))
            yield from _named(inner, f"{prefix}{key}.") if is_table else [(f"{prefix}{key}", inner)]


def test_a_list_with_a_misspelt_word_is_not_called_too_short_as_well(tmp_path: Path) -> None:
    said = refusal(tmp_path, MINIMAL.replace("[[webhook]]", '[[webhook]]\nevents = ["reciept.*"]'))
    assert "at least" not in said


def test_everything_that_is_wrong_is_named_each_once(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        loaded(tmp_path, MINIMAL + '[service]\nlissten = []\nmax_report = "much"\n')
    said = str(raised.value)
    assert said.count("lissten is no setting") == 1
    assert "max_report" in said
    assert "more" not in said
