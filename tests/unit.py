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

TAKE_LONG = frozenset(
    {
        "test_a_flood_leaves_a_database_of_bounded_size",
        "test_a_flood_of_reports_hides_no_failure",
        "test_a_flood_of_reports_holds_up_neither_deadline_nor_person",
        "test_a_flood_of_reports_is_kept_within_bounds",
        "test_five_thousand_messages_are_fetched_without_losing_one",
        "test_more_joe_jobs_bounces_than_are_kept_are_one_alarm_and_hide_no_true_report",
        "test_one_recipients_holder_can_not_fill_the_disk",
        "test_ten_thousand_blocks_leave_room_for_the_true_report",
        "test_twice_the_text_takes_twice_the_time",
        "test_two_takers_of_one_database_send_nothing_twice",
        "test_what_waits_for_an_endpoint_is_posted_as_soon_as_its_window_has_room",
        "test_whatever_a_server_leaves_out_or_makes_up_every_message_is_stored_once",
        "test_whatever_comes_each_recipient_keeps_the_first_of_a_kind_whole_and_so_much_beside_it",
    }
)
"""Tests of a second of CPU or more; none is the only one of its subject."""


def is_left_out(path: Path) -> bool:
    """Whether nothing of *path*, a file or folder below tests/, belongs to `make unit`."""
    inside = path.relative_to(Path(__file__).parent).parts
    return bool(inside) and inside[0] in NEED_PROCESSES
