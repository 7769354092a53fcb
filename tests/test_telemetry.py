"""Logs that journald and people can read, and metrics that name no one."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from receiptd import correlation_token, telemetry


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_record_is_one_line_of_keys_and_values() -> None:
    stream = io.StringIO()
    telemetry.configure_logging(stream, environ={})
    structlog.get_logger().info("message accepted", policy="default", recipients=2)
    assert re.fullmatch(
        r'timestamp=\S+Z level=info event="message accepted" policy=default recipients=2\n', stream.getvalue()
    )


def test_the_journal_gets_priorities_and_stamps_by_itself() -> None:
    stream = io.StringIO()
    telemetry.configure_logging(stream, environ={"JOURNAL_STREAM": "8:1"})
    structlog.get_logger().warning("blind")
    structlog.get_logger().error("lost")
    assert stream.getvalue() == "<4>level=warning event=blind\n<3>level=error event=lost\n"


def test_the_standard_librarys_records_look_the_same() -> None:
    stream = io.StringIO()
    telemetry.configure_logging(stream, environ={"JOURNAL_STREAM": "8:1"})
    logging.getLogger("uvicorn.error").warning("port %s is taken", 25)
    assert stream.getvalue() == '<4>level=warning event="port 25 is taken"\n'


@pytest.mark.parametrize("stream_type", [io.StringIO, Terminal])
def test_tokens_and_return_paths_are_cut_wherever_they_stand(stream_type: type[io.StringIO]) -> None:
    stream, secret = stream_type(), correlation_token.make()
    telemetry.configure_logging(stream, environ={})
    fault = ValueError(f"receipts+{secret}@a.org refused")
    structlog.get_logger().error(f"token {secret.upper()}", paths=[f"receipts+{secret}@a.org"], exc_info=fault)
    assert secret not in stream.getvalue().lower()
    assert secret[:4] in stream.getvalue()
    assert "ValueError" in stream.getvalue()


@pytest.mark.parametrize("stream_type", [io.StringIO, Terminal])
def test_a_strangers_control_characters_move_no_cursor(stream_type: type[io.StringIO]) -> None:
    stream = stream_type()
    telemetry.configure_logging(stream, environ={})
    structlog.get_logger().info("report", subject="a\x1b]0;owned\x07\u202eb\r\nlevel=critical")
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert not {"\x07", "\u202e", "\r"} & set(written)
    assert "\x1b]" not in written


def test_every_metric_of_the_contract_is_exposed() -> None:
    shown = telemetry.exposition().decode()
    for name in CONTRACT:
        assert f"# TYPE {name} " in shown


def test_when_a_counter_was_born_is_no_figure() -> None:
    telemetry.MESSAGES.labels("default").inc(0)
    telemetry.STEP_SECONDS.labels("settle").observe(0)
    assert "_created" not in telemetry.exposition().decode()


def test_no_label_is_made_for_addresses() -> None:
    labels = {label for name in telemetry.REGISTRY._names_to_collectors.values() for label in _labels(name)}
    assert labels == {
        *("policy", "delivery", "receipt", "kind", "source", "outcome", "verdict"),
        *("mailbox", "type", "webhook", "name", "step"),
    }


def _labels(collector: object) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(collector, "_labelnames", ())
    return names


CONTRACT = [
    "receiptd_messages_total",
    "receiptd_recipients",
    "receiptd_events_total",
    "receiptd_submit_seconds",
    "receiptd_submissions_total",
    "receiptd_reports_total",
    "receiptd_mailbox_last_read_timestamp_seconds",
    "receiptd_queue_oldest_seconds",
    "receiptd_overdue_held",
    "receiptd_alerts_total",
    "receiptd_webhook_backlog",
    "receiptd_webhook_attempts_total",
    "receiptd_lease_holder",
    "receiptd_step_seconds",
]
