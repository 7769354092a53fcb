"""structlog and Prometheus: what the daemon tells those who run it.

Metrics stand on a registry of their own; docs/metrics.md says what each means. Labels never hold
an address. Logs go to stderr; whatever is written, tokens are cut and control characters escaped.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from structlog.typing import EventDict, Processor, WrappedLogger

from receiptd import correlation_token
from receiptd.log_writer import LogHandler, LogWriter
from receiptd.terminal import safe

REGISTRY = CollectorRegistry()
disable_created_metrics()  # `_created` doubles the series for nothing

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

MESSAGES = Counter("receiptd_messages", "Messages accepted from users.", ["policy"], registry=REGISTRY)
RECIPIENTS = Gauge("receiptd_recipients", "Recipients by state.", ["delivery", "receipt"], registry=REGISTRY)
EVENTS = Counter("receiptd_events", "Facts recorded about recipients.", ["kind", "source"], registry=REGISTRY)
SUBMIT_SECONDS = Histogram(
    "receiptd_submit_seconds",
    "From taking a recipient out of the queue to the relay's last reply.",
    buckets=_SECONDS,
    registry=REGISTRY,
)
SUBMISSIONS = Counter("receiptd_submissions", "SMTP transactions by outcome.", ["outcome"], registry=REGISTRY)
REPORTS = Counter("receiptd_reports", "Messages that came back.", ["kind", "verdict"], registry=REGISTRY)
REPORTS_DROPPED = Counter(
    "receiptd_reports_dropped", "Reports of nobody removed beyond the limit.", ["verdict"], registry=REGISTRY
)
MAILBOX_LAST_READ = Gauge(
    "receiptd_mailbox_last_read_timestamp_seconds",
    "When every folder of the mailbox was last searched to its end.",
    ["mailbox"],
    registry=REGISTRY,
)
QUEUE_OLDEST = Gauge(
    "receiptd_queue_oldest_seconds", "Age of the oldest recipient not yet accepted.", registry=REGISTRY
)
OVERDUE_HELD = Gauge("receiptd_overdue_held", "Deadlines passed but not judged while blind.", registry=REGISTRY)
ALERTS = Counter("receiptd_alerts", "Alerts raised.", ["type"], registry=REGISTRY)
WEBHOOK_BACKLOG = Gauge("receiptd_webhook_backlog", "Alerts not yet taken.", ["webhook"], registry=REGISTRY)
WEBHOOK_OFF = Gauge("receiptd_webhook_off", "1 where a webhook gets nothing after 410.", ["webhook"], registry=REGISTRY)
WEBHOOK_ATTEMPTS = Counter(
    "receiptd_webhook_attempts", "POSTs to a webhook by outcome.", ["webhook", "outcome"], registry=REGISTRY
)
LEASE_HOLDER = Gauge("receiptd_lease_holder", "1 where this process holds the lease.", ["name"], registry=REGISTRY)
STEP_SECONDS = Histogram(
    "receiptd_step_seconds", "How long a step took.", ["step"], buckets=_SECONDS, registry=REGISTRY
)

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
)


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)


def configure_logging(
    stream: TextIO | None = None, *, level: int = logging.INFO, environ: Mapping[str, str] = os.environ
) -> None:
    """Send structlog's and the standard library's records to *stream*, or beside all else to standard error.

    A person at a terminal gets columns; everything else gets `key=value` lines, with a priority
    prefix instead of a time where the journal (which stamps by itself) reads them.
    """
    handler = LogHandler(LogWriter(sys.stderr.fileno())) if stream is None else logging.StreamHandler(stream)
    rendering = _rendering(stream or sys.stderr, environ)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=rendering))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for talker in ("apscheduler", "httpx2", "uvicorn", "alembic"):  # they tell every tick, request and start
        logging.getLogger(talker).setLevel(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _rendering(stream: TextIO, environ: Mapping[str, str]) -> list[Processor]:
    before: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
    ]
    if stream.isatty():
        console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        return [*before, structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), _escape, console, _mask]
    line: list[Processor] = [
        structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], drop_missing=True),
        _mask_line,
    ]
    if "JOURNAL_STREAM" in environ:
        return [*before, *line, _prefix_priority]
    return [*before, structlog.processors.TimeStamper(fmt="iso", utc=True), *line]


def _escape(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escape every value; a traceback keeps its lines."""
    traceback = event.pop("exception", None)
    escaped: EventDict = {key: safe(str(value)) for key, value in event.items()}
    if traceback is not None:
        escaped["exception"] = "\n".join(map(safe, str(traceback).splitlines()))
    return escaped


def _mask(_: WrappedLogger, __: str, text: Any) -> str:
    return correlation_token.mask(text)


def _mask_line(_: WrappedLogger, __: str, text: Any) -> str:
    return safe(correlation_token.mask(text))


def _prefix_priority(_: WrappedLogger, method: str, line: Any) -> str:
    return f"<{_PRIORITIES.get(method, 6)}>{line}"
