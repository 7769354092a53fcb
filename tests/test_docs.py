"""Every name that people can type or see is documented: settings, commands, metrics, types of alerts."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute

import receiptd
from receiptd import cli, deliver, settings, telemetry
from receiptd.duration import show
from receiptd.facts import (
    AlertType,
    Cause,
    Delivery,
    Disposition,
    Level,
    MatchedBy,
    Receipt,
    Source,
    Trust,
    Verdict,
)
from receiptd.models import Message, Recipient
from receiptd.recipients.incidents import recipient_data
from receiptd.send import command
from receiptd.store import monitors
from receiptd.web import api, schemas
from tests.test_rfc import EXISTING

DOCS = Path(__file__).parent.parent / "docs"

SECTIONS: dict[str, type[settings.Section]] = {
    "[service]": settings.Service,
    "listen": settings.Listen,
    "[[service.token]]": settings.ApiToken,
    "[submission]": settings.Submission,
    "[receipts]": settings.Receipts,
    "[[mailbox]]": settings.MailboxSettings,
    "oauth": settings.OAuth,
    "[policy.NAME]": settings.PolicySettings,
    "levels": settings.EscalationLevel,
    "[[policy.NAME.domain]]": settings.DomainException,
    "[[webhook]]": settings.WebhookSettings,
}
IN_SECTIONS_OF_THEIR_OWN = {("[service]", "token"), ("[policy.NAME]", "domain")}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(section: str) -> dict[str, str]:
    """Return the default that docs/settings.md states for each setting of *section*."""
    body = re.split(r"^#+ ", page("settings.md").split(f" {section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", body, re.MULTILINE))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_documented_and_no_other(section: str) -> None:
    known = {key for key in SECTIONS[section].model_fields if (section, key) not in IN_SECTIONS_OF_THEIR_OWN}
    assert set(rows(section)) == known


def test_every_cause_is_explained_and_no_other() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", page("causes.md"), re.MULTILINE)
    assert sorted(explained) == sorted(Cause)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_documented_default_is_the_true_one(section: str) -> None:
    for key, stated in rows(section).items():
        field = SECTIONS[section].model_fields[key]
        if field.is_required():
            assert stated == "needed", key
        elif field.default in (None, ()) and stated != "`[]`":
            assert stated == "–", key
        elif key != "listen":
            assert stated == f"`{shown(SECTIONS[section], key)}`", key


def shown(model: type[settings.Section], key: str) -> str:
    """Return the default of *key* as it would be written in TOML."""
    field = model.model_fields[key]
    if key in ("submit_within", "give_up", "uncertain_wait", "within", "after") and not isinstance(field.default, str):
        return f'"{show(field.default)}"'
    if key == "poll":
        return f'"{int(field.default.total_seconds())}s"'
    if key.startswith(("max_", "bytes_")):
        return f'"{settings.show_size(field.default)}"'
    return settings.showing._inline(list(field.default) if isinstance(field.default, tuple) else field.default)


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(receiptd_\w+(?:\{[\w,]+\})?)` \|", page("metrics.md"), re.MULTILINE))
    assert documented == {described(metric) for metric in set(telemetry.REGISTRY._names_to_collectors.values())}


def described(metric: Any) -> str:
    """Return `name_total{label,label}` of *metric*."""
    (family,) = metric.describe()
    name = family.name + ("_total" if family.type == "counter" else "")
    return f"{name}{{{','.join(metric._labelnames)}}}" if metric._labelnames else name


def test_every_type_of_alert_is_documented_and_no_other() -> None:
    assert set(re.findall(r"^\| `((?:receipt|monitor)\.\w+)`", page("webhooks.md"), re.MULTILINE)) == set(AlertType)


def test_every_command_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `receiptd ([\w ]+)` \|", page("commands.md"), re.MULTILINE))
    assert documented == {name for name, parser in commands(cli._parser()) if parser.get_default("command")}


def test_every_option_of_every_command_is_documented() -> None:
    text = page("commands.md").partition("## send-with-receipt")[0]
    for name, parser in commands(cli._parser()):
        row = "".join(line for line in text.splitlines() if line.startswith(f"| `receiptd {name}` |"))
        for option in options(parser) - {"--config", "--server"}:
            assert option in row, f"receiptd {name} {option}"
    assert {"--config FILE", "--server URL"} <= set(re.findall(r"`(--\w+ \w+)`", text))


def test_every_option_of_send_with_receipt_is_documented_and_no_other() -> None:
    rows = re.findall(
        r"^\| (`-.*?) \|", page("commands.md").partition("## send-with-receipt")[2].partition("\n### ")[0], re.MULTILINE
    )
    assert set(re.findall(r"`(-[\w-]+)`", " ".join(rows))) == options(command._parser())


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command below *parser* with its own parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield f"{name} {word}".strip(), inner
                yield from commands(inner, f"{name} {word}")


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}


def examples(name: str) -> list[str]:
    """Return the settings that a page shows."""
    return re.findall(r"```toml\n(.*?)```", (DOCS.parent / name).read_text(encoding="utf-8"), re.DOTALL)


def loaded(folder: Path, text: str) -> settings.Settings:
    for secret in ("password", "webhook-secret"):
        (folder / secret).write_text("secret")
    (folder / "receiptd.toml").write_text(text)
    return settings.load(folder / "receiptd.toml", environ={})


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_the_settings_shown_to_newcomers_load(tmp_path: Path, name: str) -> None:
    (example,) = examples(name)
    assert loaded(tmp_path, example).webhook[0].name == "ops"


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_a_newcomers_sockets_lie_in_the_folder_of_the_settings(tmp_path: Path, name: str) -> None:
    """In /tmp any local user could take the name first, and be handed the messages."""
    (example,) = examples(name)
    assert {listen.unix.parent for listen in loaded(tmp_path, example).service.listen if listen.unix} == {tmp_path}


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md"])
def test_a_newcomers_secrets_are_his_alone_and_his_shell_stays_as_it_was(tmp_path: Path, name: str) -> None:
    text = (DOCS.parent / name).read_text(encoding="utf-8")
    lines = re.findall(r"^    (?:\$ )?(.*(?:> password|> webhook-secret).*)$", text, re.MULTILINE)
    script = "\n".join(["umask 022", *lines, "umask"])
    done = subprocess.run(["/bin/sh", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0022"
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "password": 0o600, "webhook-secret": 0o600,
    }  # fmt: skip


def test_the_settings_of_a_webhook_load_in_place_of_a_newcomers(tmp_path: Path) -> None:
    (whole,), (example,) = examples("docs/quickstart.md"), examples("docs/webhooks.md")
    assert loaded(tmp_path, whole.partition("[[webhook]]")[0] + example).webhook[0].omit == ("subject",)


def test_every_field_of_an_alert_is_documented_and_no_other(tmp_path: Path) -> None:
    (whole,) = examples("docs/quickstart.md")
    message = Message(**BARE, subject="")
    told = recipient_data(loaded(tmp_path, whole), cast(Any, message), cast(Any, Recipient(**BARE)), reason="", level=1)
    only_here = {"excerpt", "returns_at", "resolves", "outcome", "late"}
    assert fields("## data of receipt.*") == set(told) | only_here
    assert fields("## The end of an incident") == only_here - {"excerpt", "returns_at"}
    for part in ("message", "recipient"):
        (meaning,) = re.findall(rf"^\| `{part}` \| (.*)", page("webhooks.md"), re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", meaning)) == set(told[part])
    sight = monitors._data("mailbox:receipts", monitors.Outage(since=datetime.now(UTC), reason=""))
    assert fields("## data of monitor.*") == set(sight) | {"report", "resolves"}


def fields(section: str) -> set[str]:
    """Return the names in the first column of the table under *section* of docs/webhooks.md."""
    body = page("webhooks.md").split(f"{section}\n", 1)[1].partition("\n## ")[0]
    firsts = re.findall(r"^\| (`.*?) \|", body, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(firsts)))


def test_the_documented_schedule_is_that_of_the_webhooks() -> None:
    waits = [show(wait) for wait in deliver.SCHEDULE[1:]]
    said = " ".join(page("webhooks.md").split())
    assert "tries again after " + ", ".join(f"{wait[:-1]} {wait[-1]}" for wait in waits) + ", then daily" in said


def test_every_field_of_a_message_is_explained() -> None:
    text = page("api.md")
    for field in (*schemas.Recipient.model_fields, *schemas.Event.model_fields):
        assert f"`{field}`" in text or f'"{field}": ' in text, field
    for kind in (Source, MatchedBy, Verdict, Receipt):
        for word in kind:
            assert word in text, word


BARE: dict[str, Any] = {"id": "a row of which only the names matter"}


def test_every_call_of_the_api_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `(GET|POST) (/[\w/{}]+)` \|", page("api.md"), re.MULTILINE))
    routes = [route for part in api.parts() for route in part.routes if isinstance(route, APIRoute)]
    assert documented == {(method, route.path) for route in routes for method in route.methods or ()}


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for file in [DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md", *DOCS.glob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([\w-]+))?\)", file.read_text(encoding="utf-8")):
            if target.startswith("http"):
                continue
            leads_to = file.parent / target if target else file
            assert leads_to.exists(), f"{file.name}: {target}"
            assert not anchor or anchor in anchors(leads_to), f"{file.name}: {target}#{anchor}"


def anchors(file: Path) -> set[str]:
    """Return what its headings can be reached by, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_readmes_list() -> None:
    listed = re.findall(r"^\| \[\w+\]\(docs/(\w+\.md)\) \|", (DOCS.parent / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(file.name for file in DOCS.glob("*.md"))


def test_every_state_that_a_script_may_meet_is_explained() -> None:
    text = page("receipts.md")
    for kind in (Delivery, Disposition, Receipt, Level, Trust):
        for word in kind:
            assert re.search(rf"^\| (?:[\w, ]*\b)?{word}\b", text, re.MULTILINE), word


@pytest.mark.parametrize("kind", [Delivery, Disposition, Level])
def test_of_every_state_it_is_said_what_it_proves_and_what_not(kind: type[Delivery | Disposition | Level]) -> None:
    rows = [re.split(r" *\| *", line) for line in page("receipts.md").splitlines() if line.startswith("| ")]
    said = {row[1]: row[2:4] for row in rows if len(row) == 5}
    assert set(kind) <= set(said)
    assert all(all(said[word]) for word in kind if word != "cancelled"), (
        "of a state that a person made nothing is left out"
    )


def test_the_plan_names_every_room_with_its_own_first_line() -> None:
    planned = dict(re.findall(r"^\| `([a-z_]+(?:\.py|/))` \| (.+) \|$", page("design.md"), re.MULTILINE))
    service = Path(receiptd.__file__).parent
    rooms = {path.name: path for path in service.glob("[a-z]*.py")}
    rooms |= {f"{path.parent.name}/": path for path in service.glob("*/__init__.py")}
    del planned["migrations/"]
    jobs = {name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in rooms.items()}
    assert planned == {name: (job or "").splitlines()[0] for name, job in jobs.items()}


PROMISES = re.compile(r"^ *\| (D\d+\.\d+) \| (.+) … \| (.+) \|$", re.MULTILINE)


def test_every_promise_of_the_design_has_an_id_and_tests_that_are_there() -> None:
    shown = PROMISES.findall(page("design.md"))
    ids = [key for key, _, _ in shown]
    assert sorted(ids) == sorted(set(ids))
    promises = _promises()
    assert len(promises) > 40
    for section, text in promises:
        named = [key for key, words, _ in shown if text.startswith(words)]
        assert [key.partition(".")[0] for key in named] == [f"D{section}"], f"§{section}: {text[:70]} … in {named}"
    assert len(promises) == len(shown)
    for key, _, tests in shown:
        assert set(re.findall(r"`(.+?)`", tests)) <= EXISTING, key


def _promises() -> list[tuple[str, str]]:
    """Return each law and bullet of docs/design.md with the number of its section, without markup."""
    parts = re.split(r"^## (\d+)\. .+\n", page("design.md").partition("\n## 11.")[0], flags=re.MULTILINE)[1:]
    found = [
        (section, start)
        for section, body in zip(parts[::2], parts[1::2], strict=True)
        for start in re.findall(r"^(?:\*|\d\.) (.+)$", body, re.MULTILINE)
    ]
    return [(section, re.sub(r"\*\*|\B\*\b|\b\*\B|`", "", start)) for section, start in found]


def test_each_room_that_the_plan_calls_pure_stands_in_the_import_contract() -> None:
    contracts = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (pure,) = [contract for contract in contracts if contract["type"] == "forbidden"]
    named = re.search(r"The pure rooms\n\(([\w, ]+) and below\)", page("design.md"))
    assert named is not None
    rooms = {f"receiptd.{room}" for room in named[1].split(", ")}
    assert rooms <= set(pure["source_modules"])
    assert {"asyncio", "socket", "subprocess", "multiprocessing"} <= set(pure["forbidden_modules"])


FUNCTIONS = sorted(set(re.findall(r"`((?:[a-z_]+\.)+(?:[A-Z]\w+(?:\.\w+)?|\w+))`", page("flow.md"))))


def test_the_flow_names_many_functions() -> None:
    assert len(FUNCTIONS) > 30


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_the_flow_is_there(name: str) -> None:
    found: Any = receiptd
    for word in name.split("."):
        with suppress(ModuleNotFoundError):
            importlib.import_module(f"{found.__name__}.{word}")
        found = getattr(found, word)
    assert callable(found)


def test_every_file_that_contributors_are_sent_to_is_there() -> None:
    named = re.findall(r"`([a-z_]+/[\w/.]+\.(?:py|md|toml|txt))`", (DOCS.parent / "CONTRIBUTING.md").read_text())
    roots = (DOCS.parent, DOCS.parent / "service" / "receiptd")
    assert named
    assert [name for name in named if "NNNN" not in name and not any((root / name).exists() for root in roots)] == []
