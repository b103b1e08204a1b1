"""When an announced maintenance is running, and when it is over."""

from datetime import UTC, datetime, timedelta

import pytest

from lookup.maintenance import Notice, Part

BEGINS = datetime(2026, 12, 5, 15, tzinfo=UTC)
ENDS = BEGINS + timedelta(hours=2)
NOTICE = Notice(
    number=1,
    starts_at=BEGINS,
    ends_at=ENDS,
    shown_from=BEGINS - timedelta(days=7),
    affects=(Part.LOOKUP,),
    text_vi="Nâng cấp máy chủ.",
    text_en="New servers.",
    announced_at=BEGINS - timedelta(days=14),
)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("now", "running", "over"),
    [
        (BEGINS - MOMENT, False, False),
        (BEGINS, True, False),
        (ENDS - MOMENT, True, False),
        (ENDS, False, True),
    ],
)
def test_maintenance_runs_from_its_begin_to_its_end(now: datetime, running: bool, over: bool) -> None:
    assert (NOTICE.running(now), NOTICE.over(now)) == (running, over)


def test_text_is_in_the_language_asked_for() -> None:
    assert (NOTICE.text("vi"), NOTICE.text("en")) == ("Nâng cấp máy chủ.", "New servers.")
