"""Windows of the week, at their edges, over midnight, over the week's end and in a zone of their own."""

from datetime import UTC, datetime

import pytest

from agent.apply.reboot_window import is_open, read_window

# 2026-11-22 is a Sunday.
CASES = [
    ("Sun 02:00-04:00", "UTC", datetime(2026, 11, 22, 1, 59, 59, tzinfo=UTC), False),
    ("Sun 02:00-04:00", "UTC", datetime(2026, 11, 22, 2, 0, tzinfo=UTC), True),
    ("Sun 02:00-04:00", "UTC", datetime(2026, 11, 22, 3, 59, 59, tzinfo=UTC), True),
    ("Sun 02:00-04:00", "UTC", datetime(2026, 11, 22, 4, 0, tzinfo=UTC), False),
    ("Sun 02:00-04:00", "UTC", datetime(2026, 11, 23, 3, 0, tzinfo=UTC), False),
    ("Sun 23:00-01:00", "UTC", datetime(2026, 11, 23, 0, 59, tzinfo=UTC), True),  # Monday
    ("Sun 23:00-01:00", "UTC", datetime(2026, 11, 22, 0, 30, tzinfo=UTC), False),
    ("23:00-01:00", "UTC", datetime(2026, 11, 25, 23, 0, tzinfo=UTC), True),
    ("23:00-01:00", "UTC", datetime(2026, 11, 25, 0, 59, tzinfo=UTC), True),
    ("23:00-01:00", "UTC", datetime(2026, 11, 25, 1, 0, tzinfo=UTC), False),
    ("Sun 02:00-04:00", "Asia/Tokyo", datetime(2026, 11, 21, 17, 0, tzinfo=UTC), True),
    ("Sun 02:00-04:00", "Asia/Tokyo", datetime(2026, 11, 22, 2, 0, tzinfo=UTC), False),
]


@pytest.mark.parametrize(("window", "zone", "now", "expected"), CASES)
def test_whether_it_is_open(window: str, zone: str, now: datetime, expected: bool) -> None:
    assert is_open((window,), zone, now) is expected
    assert is_open((), zone, now) is False


@pytest.mark.parametrize("text", ["", "Sun", "Sun 2:00-4:00", "Sun 24:00-01:00", "Sol 02:00-04:00", "02:00-02:00"])
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no window such as|is an empty window"):
        read_window(text)
