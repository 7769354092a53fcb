"""Faults at scale: the oracle sees each kind of broken promise, and a bounded run from a fixed seed breaks none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.chaos.journal import Journal, Letter, Post, Report, Strike, Transaction
from tests.chaos.oracle import Oracle, Violation
from tests.servers.postgres import why_no_postgres

START = 1_800_000_000.0
TOKEN = "receipts+aaaaaaaaaaaaaaaaaaaaaaaa@a.test"
DELIVERED, SILENT, BOUNCED = "delivered.1@d1.test", "silent.2@d2.test", "bounced.3@d3.test"
WITHIN = 15


class Case:
    """A run with one letter to three people, in which every promise is kept."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.rows = {address: _row(address, number) for number, address in enumerate((DELIVERED, SILENT, BOUNCED))}
        self.rows[DELIVERED] |= {"delivery": "delivered", "receipt": "met"}
        self.rows[SILENT] |= {"receipt": "overdue"}
        self.rows[BOUNCED] |= {"delivery": "failed", "receipt": "failed"}
        recipients = [{"id": row["id"], "address": row["address"]} for row in self.rows.values()]
        answer = {"id": "m", "message_id": "<m@a.test>", "recipients": recipients}
        self.letter = Letter(0, "Letter 0.", list(self.rows), "key-0", by_command=False)
        self.letter.begun_at, self.letter.answers = START, [answer]
        self.journal.letters.append(self.letter)
        self.state: dict[str, Any] = {
            "m": {"id": "m", "message_id": "<m@a.test>", "subject": "Letter 0.", "recipients": list(self.rows.values())}
        }
        for number, address in enumerate(self.rows):
            self.take(address, START + 1 + number)
        self.report(DELIVERED, "delivered", START + 2)
        self.report(BOUNCED, "failed", START + 4)
        self.post("audit", "receipt.met", DELIVERED, START + 3, id="met")
        self.post("ops", "receipt.overdue", SILENT, START + 20, id="overdue")
        self.post("boss", "receipt.overdue", SILENT, START + 25, id="overdue2", escalation=2)
        self.post("ops", "receipt.failed", BOUNCED, START + 5, id="failed")

    def take(self, address: str, at: float) -> Transaction:
        taken = Transaction(at, 0, TOKEN, "e", address, "digest", "<m@a.test>", TOKEN, at, 250, at, taken=True)
        self.journal.transactions.append(taken)
        return taken

    def report(self, address: str, action: str, at: float) -> None:
        self.journal.reports.append(Report(at, TOKEN, address, action, 1))

    def post(self, endpoint: str, kind: str, address: str, at: float, *, id: str, escalation: int = 1) -> Post:  # noqa: A002
        data = {"recipient": {"id": self.rows[address]["id"]}, "escalation": escalation, "unproven": False}
        made = Post(at, endpoint, id, kind, data, None, 204)
        self.journal.posts.append(made)
        return made

    def judge(self) -> list[Violation]:
        return list(Oracle(self.journal, self.state, WITHIN).judge())


def _row(address: str, number: int) -> dict[str, Any]:
    deadline = datetime.fromtimestamp(START + 1 + number + WITHIN, UTC).isoformat()
    row = {"id": f"r{number}", "address": address, "delivery": "accepted", "disposition": "none"}
    return row | {"deadline": deadline, "reason": None, "receipt": "open"}


def test_nothing_is_wrong_where_every_promise_is_kept() -> None:
    assert Case().judge() == []


def _lose_the_message(case: Case) -> None:
    case.state.clear()
    case.journal.transactions.clear()


def _never_send(case: Case) -> None:
    case.journal.transactions[:] = [one for one in case.journal.transactions if one.address != SILENT]


def _show_another_state(case: Case) -> None:
    case.rows[DELIVERED]["delivery"] = "relayed"


def _send_twice(case: Case) -> None:
    case.take(SILENT, START + 9)


def _send_other_bytes(case: Case) -> None:
    case.take(SILENT, START + 9).digest = "other"


def _send_under_anothers_token(case: Case) -> None:
    case.journal.transactions[0].disposition_notification_to = TOKEN.replace("aaa", "bbb")


def _keep_a_failure_quiet(case: Case) -> None:
    case.journal.posts = [post for post in case.journal.posts if post.type != "receipt.failed"]


def _refuse_the_alert_each_time(case: Case) -> None:
    next(post for post in case.journal.posts if post.type == "receipt.failed").answered = 500


def _keep_the_deadline_quiet(case: Case) -> None:
    case.journal.posts = [post for post in case.journal.posts if post.id != "overdue"]


def _never_resolve(case: Case) -> None:
    case.post("ops", "receipt.failed", DELIVERED, START + 3, id="failed2")


def _cry_wolf(case: Case) -> None:
    case.post("ops", "receipt.overdue", DELIVERED, START + 20, id="overdue3")


def _be_early(case: Case) -> None:
    next(post for post in case.journal.posts if post.id == "overdue").at = START + 9


def _be_blind_without_cause(case: Case) -> None:
    data = {"what": "mailbox", "reason": "?"}
    case.journal.posts.append(Post(START + 5, "ops", "blind", "monitor.blind", data, None, 204))
    case.journal.posts.append(Post(START + 6, "ops", "clear", "monitor.clear", {"resolves": ["blind"]}, None, 204))


def _stay_blind(case: Case) -> None:
    case.journal.strikes.append(Strike(START, START, "imap: slow", 0))
    case.journal.posts.append(Post(START + 5, "ops", "blind", "monitor.blind", {"what": "mailbox"}, None, 204))


def _change_the_webhook_id(case: Case) -> None:
    case.post("ops", "receipt.failed", BOUNCED, START + 6, id="failed again")


def _reuse_a_webhook_id(case: Case) -> None:
    case.post("ops", "receipt.failed", BOUNCED, START + 6, id="overdue")


def _change_the_message_id(case: Case) -> None:
    case.letter.answers.append({**case.letter.answers[0], "id": "n"})
    case.state["n"] = {**case.state["m"], "id": "n", "recipients": []}


def _sign_wrongly(case: Case) -> None:
    case.journal.posts[0].problem = "the signature is wrong"


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (_lose_the_message, "lost"),
        (_never_send, "lost"),
        (_show_another_state, "wrong"),
        (_send_twice, "doubled"),
        (_send_other_bytes, "doubled"),
        (_send_under_anothers_token, "wrong"),
        (_keep_a_failure_quiet, "missed"),
        (_refuse_the_alert_each_time, "missed"),
        (_keep_the_deadline_quiet, "missed"),
        (_never_resolve, "missed"),
        (_cry_wolf, "false"),
        (_be_early, "false"),
        (_be_blind_without_cause, "false"),
        (_stay_blind, "missed"),
        (_change_the_webhook_id, "unstable id"),
        (_reuse_a_webhook_id, "unstable id"),
        (_change_the_message_id, "unstable id"),
        (_sign_wrongly, "wrong"),
    ],
)
def test_the_oracle_sees_a_broken_promise(spoil: Callable[[Case], None], kind: str) -> None:
    case = Case()
    spoil(case)
    assert kind in {violation.kind for violation in case.judge()}


def test_a_copy_may_go_out_again_where_the_daemon_was_killed_before_it_kept_the_answer() -> None:
    case = Case()
    case.take(SILENT, START + 9)
    case.journal.strikes.append(Strike(START + 2.5, START + 2.5, "SIGKILL", 0))
    assert case.judge() == []
    case.state["m"]["events"] = []
    assert {violation.kind for violation in case.judge()} >= {"doubled"}  # nothing says that it was uncertain


_BOUNDED = ("--seed", "9", "--messages", "100", "--kills", "6", "--seconds", "10", "--within", "6", "--calm", "60")
_DAEMONS = {"sqlite": "1", "postgresql": "3"}

Run = subprocess.Popen[str]


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Run]]:
    """Start a run on each engine, side by side: most of their time is waiting."""
    engines = [engine for engine in _DAEMONS if engine == "sqlite" or why_no_postgres() is None]
    command = [sys.executable, "-m", "tests.chaos", *_BOUNDED]
    started = {
        engine: subprocess.Popen(
            [*command, "--engine", engine, "--daemons", _DAEMONS[engine]], stdout=subprocess.PIPE, text=True
        )
        for engine in engines
    }
    try:
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.servers
@pytest.mark.timeout(240)
@pytest.mark.parametrize("engine", list(_DAEMONS))
def test_a_bounded_run_breaks_no_promise(runs: dict[str, Run], engine: str) -> None:
    said = runs[engine].communicate()[0]
    assert runs[engine].returncode == 0, said[-8000:]
