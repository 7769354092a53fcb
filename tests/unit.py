"""Which tests `make unit` (`pytest --unit`) leaves out: those that need a process, and those that take long."""

from __future__ import annotations

from pathlib import Path

NEED_PROCESSES = frozenset(
    {
        "acceptance",
        "faults",
        "test_check.py",
        "test_demo.py",
        "test_deploy.py",
        "test_description.py",
        "test_flow.py",
        "test_fuzz.py",
        "test_make.py",
        "test_sandbox.py",
        "test_sdist.py",
        "test_send.py",
        "test_servers.py",
        "test_systemd.py",
        "test_unit_filter.py",
    }
)
"""What isn't even looked into: folders and modules of tests/."""

GO_THE_WHOLE_WAY = frozenset({"test_deliver_windows.py", "test_evidence.py", "test_forgery.py", "test_rows.py"})
"""Modules whose tests take reports from raw bytes to alerts by the hundred: 30 seconds of CPU."""

TAKE_LONG = frozenset(
    {
        "test_a_flood_of_reports_hides_no_failure",
        "test_a_flood_of_reports_holds_up_neither_deadline_nor_person",
        "test_a_flood_of_reports_is_kept_within_bounds",
        "test_five_thousand_messages_are_fetched_without_losing_one",
        "test_twice_the_text_takes_twice_the_time",
        "test_whatever_a_server_leaves_out_or_makes_up_every_message_is_stored_once",
    }
)
"""Tests of a second of CPU or more; none is the only one of its subject."""


def is_left_out(path: Path) -> bool:
    """Whether nothing of *path*, a file or folder below tests/, belongs to `make unit`."""
    inside = path.relative_to(Path(__file__).parent).parts
    return bool(inside) and inside[0] in NEED_PROCESSES | GO_THE_WHOLE_WAY
