"""What is true of a dossier: cases, dates, progress. Which words a page has for it: tests/pages."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookup.clock import VIETNAM
from lookup.dossier import Pause, Record, Step
from lookup.situation import (
    CASES,
    Due,
    Finished,
    Note,
    Sight,
    Situation,
    Stands,
    WasLate,
    completion,
    reached,
    situation,
)
from lookup.status import FIRST, MOVES, Status

BEGAN = datetime(2026, 11, 9, 1, 30, tzinfo=UTC)
DUE = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)  # 16:30 in Vietnam
POLICIES = ("restart", "shift", "none", None)
OUTCOMES = (None, "granted", "refused", "partly")


def record(*way: str, **fields: Any) -> Record:
    """A dossier that took these steps, a day each; accepted when it says so, due on DUE."""
    steps = tuple(Step(BEGAN + timedelta(days=day), slug, "G99.01.01") for day, slug in enumerate(way))
    accepted = next((step.at for step in steps if step.status in ("received", "processing")), None)
    known: dict[str, Any] = {
        "code": "G99.01.01-261109-0007",
        "version": max(1, len(steps)),
        "status": Status.from_slug(way[-1]).value,
        "service": "S.004",
        "agency": "G99.01.01",
        "submitted_at": BEGAN,
        "received_at": accepted,
        "due_at": DUE,
        "timeline": steps,
    }
    return Record(**known | fields)


def seen(*way: str, at: datetime = DUE - timedelta(days=8), **given: Any) -> Situation:
    """The holder's situation, unless something else is given; fields of the record go under `fields`."""
    fields = given.pop("fields", {})
    sight = given.pop("sight", Sight.ALL)
    return situation(record(*way, **fields), at, sight=sight, **given)


def pause(
    policy: str,
    status: int = Status.SUPPLEMENT_REQUIRED.value,
    *,
    since: datetime = DUE - timedelta(days=9),
    until: datetime | None = None,
    due_before: datetime | None = DUE,
) -> Pause:
    return Pause(status, since, until, policy, due_before)


# -- cases and the due date ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "case", "due", "days"),
    [
        (DUE - timedelta(days=8), "", Due.LEFT, 8),
        (DUE - timedelta(days=2), "", Due.LEFT, 2),
        (DUE - timedelta(days=1), "", Due.TOMORROW, 1),
        (datetime(2026, 11, 30, 16, 59, 59, tzinfo=UTC), "", Due.TOMORROW, 1),
        (datetime(2026, 11, 30, 17, 0, tzinfo=UTC), "t", Due.TODAY, 0),  # midnight in Vietnam
        (DUE, "t", Due.TODAY, 0),
        (DUE + timedelta(minutes=1), "T", Due.PAST_HOUR, 0),
        (datetime(2026, 12, 1, 16, 59, 59, tzinfo=UTC), "T", Due.PAST_HOUR, 0),
        (datetime(2026, 12, 1, 17, 0, tzinfo=UTC), "o", Due.OVERDUE_BY_ONE, 1),
        (DUE + timedelta(days=12), "o", Due.OVERDUE, 12),
    ],
)
@pytest.mark.parametrize(("way", "status"), [(("received",), "2"), (("received", "processing"), "4")])
def test_due_date_splits_a_case_by_day_in_vietnam_and_by_the_hour_on_its_day(
    way: tuple[str, ...], status: str, at: datetime, case: str, due: Due, days: int
) -> None:
    now = seen(*way, at=at)
    assert (now.case, now.due, now.days, now.note) == (status + case, due, days, None)


def test_hour_is_told_to_the_holder_alone() -> None:
    late = DUE + timedelta(hours=1)
    assert seen("received", at=late).case == "2T"
    assert (now := seen("received", at=late, sight=Sight.DAY)).case == "2t"
    assert now.due is Due.TODAY


@pytest.mark.parametrize("at", [DUE + timedelta(days=day) for day in (-30, -1, 0, 1, 30)])
@pytest.mark.parametrize("way", [("received",), ("received", "processing"), ("received", "processing", "completed")])
def test_anyone_sees_the_same_before_and_after_the_due_date_and_without_one(at: datetime, way: tuple[str, ...]) -> None:
    """Who looks daily must not find the date out."""
    pages = {
        seen(*way, at=day, sight=Sight.NOTHING, fields={"due_at": due}) for day in (at, BEGAN) for due in (DUE, None)
    }
    (one,) = pages
    assert one.due is Due.NONE
    assert one.case in ("2", "4", "9")
    assert one.note is (None if one.case == "9" else Note.ON_RECEIPT)


def test_before_acceptance_no_date_stands_for_a_promise() -> None:
    for way in (("submitted",), ("submitted", "supplement_required"), ("supplement_required",)):
        now = seen(*way)
        assert (now.due, now.note) == (Due.NONE, Note.ON_ACCEPTANCE)
        assert now.case == ("1" if way[-1] == "submitted" else "5b")


@pytest.mark.parametrize("way", [("received", "supplement_required"), ("processing", "supplement_required")])
def test_supplement_after_acceptance_is_known_by_the_steps_where_its_time_is_not(way: tuple[str, ...]) -> None:
    """Imports may lack it."""
    assert seen(*way, fields={"received_at": None}).case == "5"
    assert seen("supplement_required", fields={"received_at": BEGAN}).case == "5"


@pytest.mark.parametrize("way", [("rejected",), ("received", "withdrawn"), ("received", "completed", "returned")])
def test_what_is_closed_has_no_due_date(way: tuple[str, ...]) -> None:
    assert (seen(*way).due, seen(*way).note) == (Due.NONE, None)


@pytest.mark.parametrize(
    ("slug", "policy", "due", "note"),
    [
        ("supplement_required", "restart", Due.HELD, Note.RESTART),
        ("supplement_required", "shift", Due.HELD, Note.SHIFT),
        ("supplement_required", "none", Due.OVERDUE, Note.UNCHANGED),
        ("supplement_required", None, Due.HELD, Note.MAY_CHANGE),
        ("payment_required", "shift", Due.HELD, Note.SHIFT),
        ("payment_required", "none", Due.OVERDUE, Note.UNCHANGED),
        ("suspended", "restart", Due.HELD, Note.IF_RESUMED),
        ("suspended", "shift", Due.HELD, Note.IF_RESUMED),
        ("suspended", "none", Due.OVERDUE, Note.UNCHANGED),
        ("suspended", None, Due.HELD, Note.MAY_CHANGE),
    ],
)
def test_pause_says_of_the_date_what_its_policy_does(slug: str, policy: str | None, due: Due, note: Note) -> None:
    late = DUE + timedelta(days=3)
    now = seen("received", "processing", slug, at=late, policy=policy)
    assert (now.case, now.due, now.note) == (str(Status.from_slug(slug).value), due, note)
    for sight, shown in ((Sight.NOTHING, (Due.NONE, None)), (Sight.DAY, (Due.HELD, Note.MAY_CHANGE))):
        anyone = seen("received", "processing", slug, at=late, policy=policy, sight=sight)
        assert (anyone.due, anyone.note) == shown, "the policy would hint at the service"


@pytest.mark.parametrize(
    ("own", "of_service", "due", "note"),
    [
        ("restart", "none", Due.HELD, Note.RESTART),
        ("shift", "restart", Due.HELD, Note.SHIFT),
        ("none", "restart", Due.OVERDUE, Note.UNCHANGED),
        ("none", None, Due.OVERDUE, Note.UNCHANGED),
        ("of a later release", "shift", Due.HELD, Note.MAY_CHANGE),
    ],
)
def test_pause_keeps_the_policy_it_began_with(own: str, of_service: str | None, due: Due, note: Note) -> None:
    """The catalogue may say otherwise by now, and the due date will not follow it."""
    late, way = DUE + timedelta(days=3), ("received", "supplement_required")
    now = seen(*way, at=late, policy=of_service, fields={"pauses": (pause("shift", until=DUE), pause(own))})
    assert (now.due, now.note) == (due, note)
    assert (now.progress.stands is Stands.WAITING) is (own == "none")


@pytest.mark.parametrize(
    "pauses",
    [
        (),
        (pause("none", until=DUE - timedelta(days=8)),),
        (pause("none", Status.SUSPENDED.value),),
    ],
    ids=["none on record", "one that is over", "one of another status"],
)
def test_pause_that_is_not_on_record_has_the_policy_of_the_catalogue(pauses: tuple[Pause, ...]) -> None:
    now = seen("received", "supplement_required", policy="restart", fields={"pauses": pauses})
    assert (now.due, now.note) == (Due.HELD, Note.RESTART)


@pytest.mark.parametrize(
    ("since", "days"),
    [
        (DUE, None),
        (DUE + timedelta(minutes=1), 0),
        (datetime(2026, 12, 1, 16, 59, 59, tzinfo=UTC), 0),
        (datetime(2026, 12, 1, 17, 0, tzinfo=UTC), 1),  # midnight in Vietnam
        (DUE + timedelta(days=12), 12),
    ],
)
@pytest.mark.parametrize("way", [("supplement_required",), ("supplement_required", "processing"), ("completed",)])
def test_late_before_a_pause_stays_late_whatever_date_follows(
    way: tuple[str, ...], since: datetime, days: int | None
) -> None:
    late = pause("restart", since=since, until=None if way[-1] == "supplement_required" else since + timedelta(days=1))
    in_time = pause("shift", since=since, due_before=since + timedelta(days=9))
    fields = {"pauses": (late, in_time), "due_at": since + timedelta(days=30)}
    now = seen("received", *way, at=since + timedelta(days=5), fields=fields)
    assert now.was_late == (None if days is None else WasLate(since, days))
    assert now.due not in (Due.OVERDUE, Due.OVERDUE_BY_ONE)
    for sight in (Sight.NOTHING, Sight.DAY):
        assert seen("received", *way, fields=fields, sight=sight).was_late is None


@pytest.mark.parametrize("late", [pause("none", since=DUE + timedelta(days=2)), pause("shift", due_before=None)])
def test_late_is_not_told_twice_nor_without_a_date(late: Pause) -> None:
    """While the clock runs on, the date itself is told as overdue."""
    assert seen("received", "supplement_required", fields={"pauses": (late,)}).was_late is None


@pytest.mark.parametrize(
    ("steps", "note"),
    [
        ((Step(BEGAN, "processing", "G99.01.01", due_at=DUE),), Note.PUT_OFF),
        ((Step(BEGAN, "processing", "G99.01.01", due_at=DUE, task=1, work="Thẩm định"),), None),
        ((Step(BEGAN, "processing", "G99.01.01", due_at=DUE - timedelta(days=1)),), None),
    ],
    ids=["re-appointment", "a task that is due then", "counted anew since"],
)
def test_date_of_a_reappointment_is_said_to_be_one(steps: tuple[Step, ...], note: Note | None) -> None:
    fields = {"timeline": (Step(BEGAN, "processing", "G99.01.01"), *steps)}
    for at in (DUE - timedelta(days=8), DUE, DUE + timedelta(days=2)):
        assert seen("processing", at=at, fields=fields).note is note
        assert seen("processing", at=at, fields=fields, sight=Sight.DAY).note is None
        assert seen("processing", at=at, fields=fields, sight=Sight.NOTHING).note is Note.ON_RECEIPT


@pytest.mark.parametrize(
    ("status", "outcome", "case"),
    [
        ("completed", "refused", "9r"),
        ("completed", "partly", "9p"),
        ("completed", "granted", "9"),
        ("completed", "of a later release", "9"),
        ("completed", None, "9"),
        ("returned", "refused", "10r"),
        ("returned", "partly", "10p"),
        ("returned", "granted", "10"),
        ("processing", "refused", "4o"),
    ],
)
def test_what_came_of_the_work_is_told_to_the_holder_alone(status: str, outcome: str | None, case: str) -> None:
    """Only the refusal of a benefit: a grant is in the document, and an agency may mean something else by it."""
    way, fields = ("received", status), {"outcome": outcome}
    assert seen(*way, at=DUE + timedelta(days=2), fields=fields).case == case
    if case.startswith("9"):
        early = seen(*way, fields=fields)
        assert (early.case, early.due) == ("9e" if case == "9" else case, Due.READY)
    for sight in (Sight.NOTHING, Sight.DAY):
        anyone = seen(*way, fields=fields, sight=sight)
        assert anyone == seen(*way, sight=sight)
        assert anyone.case in ("4", "9", "9e", "10")


@pytest.mark.parametrize("sight", [Sight.DAY, Sight.ALL])
def test_completed_before_its_date_says_so_until_that_day(sight: Sight) -> None:
    way = ("received", "processing", "completed")
    ahead, today = (
        seen(*way, at=DUE - timedelta(days=1), sight=sight),
        seen(*way, at=DUE - timedelta(hours=9), sight=sight),
    )
    assert (ahead.case, ahead.due) == ("9e", Due.READY)
    assert (today.case, today.due) == ("9", Due.PLAIN)


@pytest.mark.parametrize(
    ("finished", "told", "days"),
    [
        (DUE - timedelta(days=3), Finished.EARLY, 3),
        (DUE - timedelta(days=1), Finished.EARLY, 1),
        (DUE + timedelta(hours=7), Finished.ON_TIME, 0),  # later that day in Vietnam
        (DUE + timedelta(hours=8), Finished.LATE, 1),
    ],
)
def test_completed_in_time_is_counted_by_the_day_for_the_holder(finished: datetime, told: Finished, days: int) -> None:
    way, fields = ("received", "completed"), {"finished_at": finished}
    assert (seen(*way, fields=fields).finished, seen(*way, fields=fields).finished_days) == (told, days)
    assert seen(*way, fields=fields, sight=Sight.DAY).finished is None


@pytest.mark.parametrize("day", range(-3, 4))
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("way", [("received",), ("processing",), ("received", "supplement_required")])
def test_what_may_be_out_of_date_counts_no_days(way: tuple[str, ...], policy: str | None, day: int) -> None:
    """It may be finished by now."""
    now = seen(*way, at=DUE + timedelta(days=day), policy=policy, stale=True)
    assert now.due in (Due.PLAIN, Due.HELD)
    assert now.case in ("2", "4", "5")


def test_processing_after_completion_is_a_correction_also_when_it_is_late() -> None:
    way = ("received", "processing", "completed", "processing")
    assert seen(*way).case == "4c"
    assert seen(*way, at=DUE).case == "4c"
    assert seen(*way, at=DUE + timedelta(days=2)).case == "4co"
    assert seen(*way, at=DUE + timedelta(days=2), sight=Sight.NOTHING).case == "4c"


def test_returned_after_it_was_stopped_is_not_a_result() -> None:
    now = seen("received", "processing", "suspended", "returned")
    assert now.case == "10s"
    assert now.progress.done == ("submitted", "received", "processing", "suspended")
    assert now.progress.percent is None
    assert seen("received", "suspended", "processing", "completed", "returned").case == "10"


def test_last_step_is_the_last_by_time_whatever_its_place() -> None:
    """A system that reports late appends out of order."""
    now = record("received", "suspended", "returned")
    moved = Record(**{**_fields(now), "timeline": (now.timeline[2], now.timeline[0], now.timeline[1])})
    assert situation(moved, DUE, sight=Sight.ALL).case == "10s"


def _fields(known: Record) -> dict[str, Any]:
    return {name: getattr(known, name) for name in known.__struct_fields__}


# -- progress ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "done", "present", "ahead", "stands", "percent"),
    [
        (("submitted",), "submitted"[:0], "submitted", "received processing completed returned", Stands.NOW, 10),
        (("received",), "submitted", "received", "processing completed returned", Stands.NOW, 25),
        (("processing",), "submitted received", "processing", "completed returned", Stands.NOW, 50),
        (("completed",), "submitted received processing", "completed", "returned", Stands.NOW, 90),
        (("returned",), "submitted received processing completed", "returned", "", Stands.CLOSED, 100),
        (("rejected",), "submitted", "rejected", "", Stands.CLOSED, None),
        (
            ("received", "processing", "withdrawn"),
            "submitted received processing",
            "withdrawn",
            "",
            Stands.CLOSED,
            None,
        ),
        (
            ("submitted", "supplement_required"),
            "submitted",
            "supplement_required",
            "received processing completed returned",
            Stands.NOW,
            10,
        ),
        (
            ("received", "supplement_required"),
            "submitted received",
            "supplement_required",
            "resumed completed returned",
            Stands.ON_HOLD,
            25,
        ),
        (
            ("received", "processing", "payment_required"),
            "submitted received processing",
            "payment_required",
            "resumed completed returned",
            Stands.ON_HOLD,
            50,
        ),
        (("received", "processing", "suspended"), "submitted received processing", "suspended", "", Stands.STOPPED, 50),
        (
            ("processing", "supplement_required", "received"),
            "submitted",
            "received",
            "resumed completed returned",
            Stands.NOW,
            50,
        ),
    ],
)
def test_steps_are_those_that_were_taken(
    way: tuple[str, ...], done: str, present: str, ahead: str, stands: Stands, percent: int | None
) -> None:
    for sight in Sight:  # only which steps, never when: the same for anyone
        shown = seen(*way, sight=sight).progress
        assert (shown.done, shown.present) == (tuple(done.split()), present)
        assert (shown.ahead, shown.stands, shown.percent) == (tuple(ahead.split()), stands, percent)


def test_something_is_waited_for_while_the_clock_runs() -> None:
    assert seen("received", "payment_required", policy="none").progress.stands is Stands.WAITING
    assert seen("received", "payment_required", policy="none", sight=Sight.NOTHING).progress.stands is Stands.ON_HOLD


ways = st.integers(0, 10**9).flatmap(lambda _: st.lists(st.integers(0, 5), min_size=1, max_size=9))


@given(st.sampled_from(sorted(FIRST)), st.lists(st.integers(0, 5), max_size=9))
def test_completion_falls_at_a_correction_alone(first: Status, choices: list[int]) -> None:
    status, way, before = first, [first.slug], 0.0
    for choice in [0, *choices]:
        accepted = any(slug in ("received", "processing") for slug in way)
        now = completion(status, accepted, way)
        shown = situation(record(*way), DUE, sight=Sight.NOTHING).progress.percent
        assert shown is None or shown == round(now * 100)
        corrected = status is Status.PROCESSING and way[-2:-1] == ["completed"]
        assert now >= before or corrected
        assert (now == 1) is status.final
        before = now
        if not MOVES[status]:
            break
        status = MOVES[status][choice % len(MOVES[status])]
        way.append(status.slug)


@given(st.sampled_from(Status), st.booleans(), st.lists(st.sampled_from([status.slug for status in Status])))
def test_reached_is_never_beyond_processing(status: Status, received: bool, passed: list[str]) -> None:
    assert reached(status, received, passed) in (Status.SUBMITTED, Status.RECEIVED, Status.PROCESSING)


# -- whatever is known ---------------------------------------------------------------------------------------


def test_every_case_occurs() -> None:
    ways = [
        *(("submitted",), ("received",), ("received", "processing"), ("rejected",), ("withdrawn",)),
        *(("supplement_required",), ("received", "supplement_required"), ("payment_required",), ("suspended",)),
        *(("completed",), ("returned",), ("completed", "processing"), ("suspended", "returned")),
    ]
    moments = [DUE + timedelta(days=day, minutes=minute) for day in (-3, -1, 0, 1, 3) for minute in (-1, 1)]
    met = {
        seen(*way, at=at, fields={"outcome": outcome}).case
        for way, at, outcome in itertools.product(ways, moments, OUTCOMES)
    }
    assert met == set(CASES)


@given(
    st.sampled_from(Status),
    st.none() | st.datetimes(datetime(2026, 11, 1), datetime(2026, 12, 31), timezones=st.just(VIETNAM)),
    st.datetimes(datetime(2026, 11, 1), datetime(2026, 12, 31), timezones=st.just(UTC)),
    st.sampled_from(Sight),
    st.sampled_from(POLICIES),
    st.booleans(),
    st.booleans(),
    st.sampled_from(OUTCOMES),
    st.lists(st.sampled_from(["restart", "shift", "none", "another"]), max_size=2),
)
def test_no_situation_says_more_than_it_may(
    status: Status,
    due_at: datetime | None,
    at: datetime,
    sight: Sight,
    policy: str | None,
    stale: bool,
    known: bool,
    outcome: str | None,
    policies: list[str],
) -> None:
    paused = tuple(pause(each, status.value, since=DUE + timedelta(days=2)) for each in policies)
    fields = {"due_at": due_at, "received_at": BEGAN if known else None, "outcome": outcome, "pauses": paused}
    now = situation(record(status.slug, **fields), at, sight=sight, policy=policy, stale=stale)
    assert now.case in CASES
    assert due_at or now.due is Due.NONE
    if sight is Sight.NOTHING:
        assert now.due is Due.NONE
    if sight is not Sight.ALL:
        assert now.due is not Due.PAST_HOUR
    if stale:
        assert now.due in (Due.NONE, Due.PLAIN, Due.HELD, Due.READY)
    assert now.days >= 0
    if sight is not Sight.ALL:
        untold = {"due_at": due_at, "received_at": BEGAN if known else None}
        assert now == situation(record(status.slug, **untold), at, sight=sight, stale=stale)
