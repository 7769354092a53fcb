"""The description at /v1/openapi.json is true: schemathesis asks a running daemon for all of it, as every caller."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from receiptd import client
from receiptd.errors import ReceiptdError
from receiptd.facts import Verdict
from receiptd.store import reports
from tests.fork_server import ForkServer
from tests.schemathesis_hooks import UNIX
from tests.servers.ports import Ports
from tests.steps_fixture import dsn, open_steps

Json = dict[str, Any]
ROOT = Path(__file__).parent.parent
SEED = "8"
DECISIONS = {
    "POST /v1/messages/{message}/cancel",
    "POST /v1/messages/{message}/retry",
    "POST /v1/messages/{message}/resend",
    "POST /v1/held/retry",
    "POST /v1/recipients/{recipient}/acknowledge",
    "POST /v1/recipients/{recipient}/waive",
    "POST /v1/recipients/{recipient}/confirm",
    "POST /v1/reports/{report}/assign",
    "POST /v1/alerts/{alert}/replay",
}
MAY_BE_POINTLESS = {"POST /v1/held/retry", "POST /v1/messages/{message}/retry"}
"""Nothing is held here, and what waits may have been cancelled before."""
REFUSED = {
    "send": DECISIONS
    | {"GET /v1/reports", "GET /v1/reports/{report}/raw", "GET /v1/alerts", "GET /readyz", "GET /metrics"},
    "read": DECISIONS | {"POST /v1/messages", "GET /v1/reports/{report}/raw"},
    "operate": set(),
}
"""What a token of each scope may not do; the raw bytes of a report hold its secrets."""
_SETTINGS = """
[service]
database = "sqlite:///{folder}/receiptd.db"
listen = [
  {{unix = "{folder}/send.sock", mode = "0666", scope = "send"}},
  {{unix = "{folder}/api.sock", mode = "0660", scope = "operate"}},
  {{tcp = "127.0.0.1:{tcp}"}},
]
max_message = "1M"
{tokens}
[submission]
url = "smtp://127.0.0.1:{closed}"
[receipts]
address = "receipts@a.test"
[[mailbox]]
url = "imap+starttls://receipts%40a.test@127.0.0.1:{closed}"
password_file = "secret"
[[webhook]]
name = "ops"
url = "http://127.0.0.1:{closed}/"
secret_file = "secret"
"""
_TOKEN = """
[[service.token]]
name = "{scope}"
secret_file = "token-{scope}"
scopes = ["{scope}"]
"""
_CONFIG = """
hooks = "tests.schemathesis_hooks"
continue-on-failure = true
max-stream-events = 1
request-timeout = 2
[phases.coverage]
unexpected-methods = ["DELETE", "PUT"]
[dictionaries]
{values}
[parameters]
{bound}
[checks]
# What an address or a cursor may be, no schema says; that each is refused in a sentence is tested in test_web.py.
positive_data_acceptance = {{enabled = false}}
[[operations]]
include-path = "/readyz"
[operations.checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 503]
"""


@dataclass(frozen=True)
class Served:
    """A daemon with something of everything in its database."""

    folder: Path
    tcp: str
    ids: dict[str, list[str]]

    def token(self, scope: str) -> str:
        return (self.folder / f"token-{scope}").read_text()

    def ask(self, path: str) -> Any:
        with closing(HTTPConnection(self.tcp, timeout=10)) as connection:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())


async def _filled(folder: Path) -> dict[str, list[str]]:
    """Put messages, reports and alerts into a new database; return ids by the parameter that takes them."""
    async with open_steps(folder) as steps:
        failed = await steps.submitted("bob@b.test", "carol@b.test", labels={"order": "17"})
        await steps.submitted("dave@d.test")
        queued = await steps.take("erin@e.test")
        token = failed.recipients[0].token
        await steps.receive(
            dsn(token, action="failed", status="5.1.1"), dsn(token, action="relayed"), dsn("a" * 24), dsn("b" * 24)
        )
        steps.pass_time(hours=5)
        await steps.judge()
        alerts = [alert.id for alert in await steps.alerts()]
        async with steps.store.read() as session:
            unmatched = await reports.newest(session, limit=9, verdicts=[Verdict.UNMATCHED])
    return {
        "message": [failed.message.id, queued.message.id],
        "recipient": [row.id for row in failed.recipients],
        "report": [row.id for row in unmatched],
        "alert": alerts,
    }


@pytest.fixture(scope="module")
def served(fork_server: ForkServer) -> Iterator[Served]:
    folder = Path(tempfile.mkdtemp(prefix="rcpt-"))
    ids = asyncio.run(_filled(folder))
    ports = Ports(["tcp", "closed"])
    for scope in REFUSED:
        (folder / f"token-{scope}").write_text(f"token-of-scope-{scope}-0123456789abcdef")
    tokens = "".join(_TOKEN.format(scope=scope) for scope in REFUSED)
    text = _SETTINGS.format(folder=folder, tcp=ports["tcp"], closed=ports["closed"], tokens=tokens)
    (folder / "receiptd.toml").write_text(text)
    ports.release()
    child = fork_server.start(["run", "--config", str(folder / "receiptd.toml")], folder / "daemon.log")
    try:
        daemon = client.find(folder / "receiptd.toml")
        give_up = time.monotonic() + 30
        while not _answers(daemon):
            assert time.monotonic() < give_up, (folder / "daemon.log").read_text()
            time.sleep(0.05)
        yield Served(folder, f"127.0.0.1:{ports['tcp']}", ids)
    finally:
        child.kill()
        child.wait(10)
        shutil.rmtree(folder)


def _answers(daemon: client.Client) -> bool:
    try:
        daemon.get("/healthz")
    except ReceiptdError:
        return False
    return True


def _described(served: Served, scope: str | None) -> Json:
    """Return the description as *scope* finds it; on a Unix socket nobody asks for a token."""
    described: Json = served.ask("/v1/openapi.json")
    for call in (call for calls in described["paths"].values() for call in calls.values()):
        if scope is None:
            call.pop("security", None)
    return described


def _run(served: Served, scope: str | None, phases: str) -> dict[str, set[int]]:
    """Let schemathesis ask for all that is described; return which statuses each call answered."""
    name = scope or "unix"
    files = {kind: served.folder / f"{name}.{kind}" for kind in ("toml", "json", "har")}
    bound_to = {f"path.{key}": key for key in served.ids} | {"body.recipient": "recipient"}
    values = "".join(f"{key} = {{values = {json.dumps(ids)}}}\n" for key, ids in served.ids.items())
    bound = "".join(f'"{key}" = {{dictionary = "{name}", probability = 0.7}}\n' for key, name in bound_to.items())
    files["toml"].write_text(_CONFIG.format(values=values, bound=bound))
    files["json"].write_text(json.dumps(_described(served, scope)))
    words = ["-m", "schemathesis.cli", "--config-file", str(files["toml"]), "run", str(files["json"]), "--no-color"]
    words += ["--url", f"http://{served.tcp if scope else 'localhost'}", "--phases", phases, "--seed", SEED]
    words += ["--max-examples", "10", "--report-har-path", str(files["har"])]
    words += ["-H", f"Authorization: Bearer {served.token(scope)}"] if scope else []
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=served.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | ({} if scope else {UNIX: str(served.folder / "api.sock")}),
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return _answered(json.loads(files["json"].read_text()), json.loads(files["har"].read_text()))


def _answered(described: Json, har: Json) -> dict[str, set[int]]:
    """Return the statuses that each call answered."""
    calls = {
        f"{method.upper()} {path}": re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))
        for path, methods in described["paths"].items()
        for method in methods
    }
    found: dict[str, set[int]] = {call: set() for call in calls}
    for entry in har["log"]["entries"]:
        asked, path = entry["request"]["method"], urlsplit(entry["request"]["url"]).path
        for call, pattern in calls.items():
            if call.startswith(f"{asked} ") and pattern.fullmatch(path):
                found[call].add(entry["response"]["status"])
    return found


def test_the_description_is_true_on_a_unix_socket_that_operates(served: Served) -> None:
    answered = _run(served, None, "examples,coverage,fuzzing")
    never_well = {call for call, statuses in answered.items() if not statuses & {200, 202}}
    assert never_well <= MAY_BE_POINTLESS | {"GET /readyz"}
    assert not set.union(*answered.values()) & {401, 403, 500}


@pytest.mark.parametrize("scope", REFUSED)
def test_the_description_is_true_over_tcp_for_a_token_of_each_scope(served: Served, scope: str) -> None:
    answered = _run(served, scope, "examples,coverage")
    assert {call for call, statuses in answered.items() if 403 in statuses} == REFUSED[scope]
    assert {call for call, statuses in answered.items() if 401 not in statuses} == {"GET /healthz"}
    assert 500 not in set.union(*answered.values())
    assert not any(statuses & {200, 202} for call, statuses in answered.items() if call in REFUSED[scope])
