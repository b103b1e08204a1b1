"""What may be written to a dossier: each rule by examples, and whole histories against a slow oracle."""

import itertools
import os
from collections import deque
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake.books import fold
from intake.books.dossier import public_step
from intake.books.seal import HASHED_COLUMNS, jsonb_text
from intake.refusals import (
    BackdatedTooFar,
    BadDate,
    DatesOutOfOrder,
    MoveNotAllowed,
    NumberTaken,
    PolicyAsks,
    PolicyBlocks,
    ReasonRequired,
    TargetNotAllowed,
    UnknownAgency,
    UnknownDossier,
    UnknownService,
)
from intake.rules import apply as rules
from intake.rules import changes
from intake.rules.apply import ENDINGS, FULL_BYTES, NOT_IN_TIMELINE, NOTHING_TOLD, apply, code_day
from intake.rules.changes import (
    CORRECTABLE,
    CROWDED_BYTES,
    Applied,
    Binding,
    Change,
    Correction,
    Given,
    Move,
    OwnerChange,
    Pause,
    Reception,
    State,
    pauses_told,
)
from intake.rules.requests import InvalidContent
from intake.rules.workdays import SHIPPED
from lookup.catalogue import Agency, Catalogue, Service, TimeLimit
from lookup.clock import VIETNAM
from lookup.status import MOVES, Status
from ops.errors import Refusal

HISTORIES = int(os.environ.get("HOSO24_PROOF_HISTORIES", "2000"))
"""Histories that are tried against the oracle; `make proof` tries a hundred thousand."""

S = Status
LONG_AGO = date(2010, 1, 1)


def service(code: str, days: int, supplement: str, suspension: str, payment: str = "shift") -> Service:
    times = (TimeLimit("any", 8 * days, LONG_AGO),)
    return Service(code, "Ví dụ", "Example", "F", False, times, supplement, suspension, payment)


SERVICES = {
    each.code: each
    for each in (
        service("S.1", 1, "restart", "shift"),
        service("S.5", 5, "shift", "restart", "none"),
        service("S.7", 7, "none", "none", "restart"),
        service("S.20", 20, "restart", "shift"),
        Service("S.0", "Ngay", "At once", "F", False, (TimeLimit("any", None, LONG_AGO, at_once=True),)),
        Service("S.N", "Không hạn", "No limit", "F", False, ()),
    )
}
AGENCIES = {
    code: Agency(code, code.rpartition(".")[0] or None, code, code, LONG_AGO)
    for code in ("H1", "H1.1", "H1.2", "H1.1.1", "H1.1.2", "H2", "H2.1")
}
TAKES = {
    "H1": {"H1"},
    "H1.1": {"H1", "H1.1", "H1.2"},
    "H1.2": {"H1", "H1.1", "H1.2"},
    "H1.1.1": {"H1", "H1.1", "H1.2", "H1.1.1", "H1.1.2"},
    "H1.1.2": {"H1", "H1.1", "H1.2", "H1.1.1", "H1.1.2"},
    "H2": {"H2"},
    "H2.1": {"H2", "H2.1"},
}
"""Holder → to whom it may hand a dossier: the same or a higher level under its root."""
CATALOGUE = Catalogue(AGENCIES, SERVICES)


def on(text: str, year: int = 2026) -> datetime:
    """`11-16 10:00` on a Vietnamese clock; 16 November 2026 is a Monday, and the 24th a public holiday."""
    return datetime.strptime(f"{year}-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


NOW = on("11-16 10:00")


def received(at: str = "11-16 10:00", of: str = "S.20", status: Status = S.RECEIVED, **more: Any) -> State:
    given: dict[str, Any] = {
        "code": "H1.1.1-1",
        "agency": "H1.1.1",
        "service": of,
        "channel": "direct",
        "status": status,
    } | more
    return apply(None, Reception(**given), Given(on(at), CATALOGUE)).state


def moved(state: State, *steps: tuple[str, Status]) -> State:
    """After these steps, each said when it happened, with a reason and a list."""
    for at, to in steps:
        items = ("Bản sao",) if to is S.SUPPLEMENT_REQUIRED else ()
        state = apply(state, Move(to=to, note="Lý do", items=items, override="Căn cứ"), Given(on(at), CATALOGUE)).state
    return state


def refusal(state: State | None, change: Any, now: datetime = NOW, **more: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        apply(state, change, Given(now, CATALOGUE, **more))
    return refused.value


# -- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "now", "kept"),
    [
        ("11-16 09:00", "11-16 10:00", "11-16 09:00"),
        ("11-16 10:05", "11-16 10:00", "11-16 10:00"),  # the source's clock is ahead
        ("11-16 07:55", "11-16 10:00", "11-16 08:00"),  # and behind the last step's
        ("11-16 10:06", "11-16 10:00", BadDate),
        ("11-16 07:54", "11-16 10:00", DatesOutOfOrder),
        ("11-16 08:00", "11-17 10:00", "11-16 08:00"),
        ("11-20 16:00", "11-23 08:00", "11-20 16:00"),  # Friday's work, written down on Monday
        ("11-21 09:00", "11-23 08:00", "11-21 09:00"),
        ("11-19 16:00", "11-23 08:00", BackdatedTooFar),
        ("11-19 23:59", "11-21 08:00", BackdatedTooFar),  # on a Saturday, too, Friday is the day before
        ("11-20 00:00", "11-21 08:00", "11-20 00:00"),
    ],
)
@pytest.mark.parametrize("zone", [VIETNAM, UTC])
def test_when_a_step_may_have_happened(at: str, now: str, kept: Any, zone: tzinfo) -> None:
    state = received("11-16 08:00")
    move = Move(to=S.PROCESSING, at=on(at).astimezone(zone))
    if isinstance(kept, str):
        applied = apply(state, move, Given(on(now), CATALOGUE))
        assert applied.event is not None
        assert applied.event["occurred_at"] == applied.state.last_at == on(kept)
    else:
        assert type(refusal(state, move, on(now))) is kept


def test_how_far_back_is_a_policy_and_an_import_has_none() -> None:
    state, now = received("11-09 08:00"), on("11-23 08:00")
    move = Move(to=S.PROCESSING, at=on("11-18 08:00"))
    assert refusal(state, move, now).members == {"earliest": "2026-11-20"}
    assert refusal(state, move, now, backdating=2).members == {"earliest": "2026-11-19"}
    assert apply(state, move, Given(now, CATALOGUE, backdating=3)).flags == ()
    by_import = msgspec.structs.replace(state)
    applied = apply(by_import, Move(to=S.PROCESSING, at=on("11-10 08:00"), by_import=True), Given(now, CATALOGUE))
    assert (applied.flags, applied.event and applied.event["flags"]) == (("by_import",), ["by_import"])
    early = Move(to=S.PROCESSING, at=on("11-08 08:00"), by_import=True)
    assert isinstance(refusal(state, early, now), DatesOutOfOrder)


def test_step_without_a_time_follows_the_last_even_if_the_clock_was_set_back() -> None:
    state = received("11-16 10:00")
    applied = apply(state, Move(to=S.PROCESSING), Given(on("11-16 08:00"), CATALOGUE))
    assert applied.state.last_at == state.last_at


@pytest.mark.parametrize(
    ("at", "of", "now", "expected"),
    [
        (on("11-13 09:00"), "S.20", "11-16 10:00", None),
        (on("11-12 09:00"), "S.20", "11-16 10:00", BackdatedTooFar),
        (on("12-31 23:00", 1989), "S.20", "11-16 10:00", BadDate),
        (on("11-13 09:00"), "S.0", "11-16 10:00", BadDate),  # it was due on Friday
        (on("11-16 09:00"), "S.0", "11-16 17:30", None),
        (on("11-13 09:00"), "S.N", "11-16 10:00", None),
    ],
)
def test_when_a_dossier_may_have_come_in(at: datetime, of: str, now: str, expected: Any) -> None:
    new = Reception(code="c", agency="H1.1.1", service=of, channel="direct", status=S.RECEIVED, submitted_at=at)
    if expected is None:
        assert apply(None, new, Given(on(now), CATALOGUE)).state.submitted_at == at
    else:
        assert type(refusal(None, new, on(now), backdating=2 if at.year < 2000 else 1)) is expected


def test_code_is_of_the_day_in_vietnam() -> None:
    assert code_day(datetime(2026, 11, 16, 16, 59, tzinfo=UTC)) == date(2026, 11, 16)
    assert code_day(datetime(2026, 11, 16, 17, 0, tzinfo=UTC)) == date(2026, 11, 17)


# -- the due date ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [S.PROCESSING, S.COMPLETED])
def test_only_a_dossier_that_came_in_begins(status: Status) -> None:
    assert isinstance(
        refusal(None, Reception(code="c", agency="H1", service="S.1", channel="direct", status=status)), InvalidContent
    )


def test_what_a_change_and_a_state_leave_out() -> None:
    """Callers and rows rest on these: what is left out means none, never, or nothing."""
    rest: dict[str, Any] = dict.fromkeys(("status", "submitted_at", "last_at"))
    rest |= dict.fromkeys(("code", "agency", "origin", "service", "service_case", "channel", "calendar"), "")
    state = State(
        **rest,
        version=1,
        timeline_bytes=0,
    )
    counts = (state.supplements, state.reappointments, state.key_serial, state.removed, state.pauses)
    assert counts == (0, 0, 0, False, ())
    reception = Reception(code="", agency="", service="", channel="", status=S.RECEIVED)
    assert (reception.service_case, reception.submitted_at, reception.submitted_by) == ("default", None, None)
    move = Move(to=S.PROCESSING)
    assert (move.at, move.items, move.by_import) == (None, (), False)
    number = Binding(number="")
    assert (number.elsewhere, number.by_import) == (False, False)
    correction = Correction(reason="")
    assert (correction.fields, correction.applicant, correction.elsewhere) == ({}, (), False)
    assert Given(NOW, CATALOGUE).backdating == 1
    assert CORRECTABLE == ("agency", "service", "service_case", "channel", "submitted_at", "official_number")


def test_date_is_promised_at_acceptance_only() -> None:
    state = received(status=S.SUBMITTED)
    assert (state.received_at, state.due_at) == (None, None)
    asked = moved(state, ("11-16 11:00", S.SUPPLEMENT_REQUIRED))
    assert asked.due_at is None
    accepted = moved(asked, ("11-18 09:00", S.RECEIVED))
    assert (accepted.received_at, accepted.due_at) == (on("11-18 09:00"), on("12-17 09:00"))
    late = Move(to=S.RECEIVED, at=on("11-16 11:00"))
    atonce = received(of="S.0", status=S.SUBMITTED)
    assert isinstance(refusal(atonce, late, on("11-17 08:00")), BadDate)


@pytest.mark.parametrize(
    ("of", "steps", "due"),
    [
        ("S.20", [("11-18 10:00", 5), ("11-20 10:00", 4)], "12-21 10:00"),  # counted anew
        ("S.20", [("11-18 10:00", 5), ("11-20 09:00", 8), ("11-20 10:00", 4)], "12-21 10:00"),  # with an hour's stop
        ("S.20", [("11-18 10:00", 6), ("11-20 10:00", 4)], "12-17 10:00"),  # moved by two days
        ("S.20", [("11-18 10:00", 8), ("11-20 10:00", 4)], "12-17 10:00"),
        ("S.20", [("11-18 10:00", 6), ("11-20 10:00", 8), ("11-23 10:00", 4)], "12-18 10:00"),
        ("S.20", [("11-18 10:00", 5), ("11-20 10:00", 7)], "12-15 10:00"),  # ended: as it was
        ("S.5", [("11-18 10:00", 5), ("11-20 10:00", 4)], "11-26 10:00"),  # moved
        ("S.5", [("11-18 10:00", 8), ("11-20 10:00", 4)], "11-30 10:00"),  # counted anew
        ("S.5", [("11-18 10:00", 6), ("11-20 10:00", 4)], "11-23 10:00"),  # kept, after a payment
        ("S.7", [("11-18 10:00", 5), ("11-20 10:00", 8), ("11-24 10:00", 4)], "11-26 10:00"),  # kept
    ],
)
def test_each_pause_counts_by_its_own_policy(of: str, steps: list[tuple[str, int]], due: str) -> None:
    state = moved(received(of=of), *((at, Status(to)) for at, to in steps))
    assert state.due_at == on(due)
    chain = [(pause.since, pause.until) for pause in state.pauses]
    times = [on(at) for at, _ in steps]
    assert chain == list(itertools.pairwise(times))


def test_supplement_does_not_erase_being_overdue() -> None:
    late = moved(received(of="S.1"), ("11-20 10:00", S.SUPPLEMENT_REQUIRED))
    again = moved(late, ("11-20 10:01", S.PROCESSING), ("11-20 10:02", S.SUPPLEMENT_REQUIRED))
    assert again.supplements == 2
    first, second = again.pauses
    assert first == Pause(5, on("11-20 10:00"), on("11-20 10:01"), "restart", on("11-17 10:00"))
    assert second == Pause(5, on("11-20 10:02"), None, "restart", on("11-23 10:01"))


def test_policy_of_a_pause_is_the_one_it_began_with() -> None:
    state = moved(received(), ("11-18 10:00", S.SUPPLEMENT_REQUIRED))
    other = Catalogue(AGENCIES, {"S.20": service("S.20", 20, "none", "none")})
    resumed = apply(state, Move(to=S.PROCESSING), Given(on("11-20 10:00"), other)).state
    assert resumed.due_at == on("12-21 10:00")


def test_calendar_is_the_one_that_the_due_date_was_counted_by() -> None:
    old = msgspec.structs.replace(received(), calendar="of old")
    paused = moved(old, ("11-18 10:00", S.SUPPLEMENT_REQUIRED))
    assert paused.calendar == moved(paused, ("11-20 10:00", S.WITHDRAWN)).calendar == "of old"
    assert moved(paused, ("11-20 10:00", S.PROCESSING)).calendar == SHIPPED.name
    submitted = msgspec.structs.replace(received(status=S.SUBMITTED), calendar="of old")
    assert moved(submitted, ("11-18 10:00", S.RECEIVED)).calendar == SHIPPED.name


def test_correction_of_a_result_takes_it_back() -> None:
    done = moved(received(), ("11-18 10:00", S.COMPLETED))
    assert (done.finished_at, done.outcome) == (on("11-18 10:00"), "granted")
    again = moved(done, ("11-19 10:00", S.PROCESSING))
    assert (again.finished_at, again.outcome, again.due_at) == (None, None, done.due_at)
    handed = moved(again, ("11-20 10:00", S.COMPLETED), ("11-23 10:00", S.RETURNED))
    assert (handed.finished_at, handed.returned_at) == (on("11-20 10:00"), on("11-23 10:00"))


# -- words -----------------------------------------------------------------------------------------------------------

LIST = ("Bản sao", "  ", "Đơn")


@pytest.mark.parametrize(
    ("change", "missing", "action_needed", "reason"),
    [
        (Move(to=S.SUSPENDED), ["note"], None, None),
        (Move(to=S.SUSPENDED, note="  "), ["note"], None, None),
        (Move(to=S.SUSPENDED, note="Chờ tòa"), [], None, "Chờ tòa"),
        (Move(to=S.SUPPLEMENT_REQUIRED), ["note", "items"], None, None),
        (Move(to=S.SUPPLEMENT_REQUIRED, note="Thiếu"), ["items"], None, None),
        (Move(to=S.SUPPLEMENT_REQUIRED, items=LIST), ["note"], None, None),
        (Move(to=S.SUPPLEMENT_REQUIRED, note="Thiếu", items=("  ",)), ["items"], None, None),
        (Move(to=S.SUPPLEMENT_REQUIRED, note="Thiếu", items=LIST), [], "Thiếu\n– Bản sao\n– Đơn", None),
        (Move(to=S.PAYMENT_REQUIRED, note="Nộp"), [], "Nộp", None),
        (Move(to=S.WITHDRAWN), [], None, None),
        (Move(to=S.WITHDRAWN, note="Theo đơn"), [], None, "Theo đơn"),
        (Move(to=S.COMPLETED, outcome="refused"), ["note"], None, None),
        (Move(to=S.COMPLETED, outcome="refused", note="Không đủ"), [], None, "Không đủ"),
        (Move(to=S.COMPLETED, outcome="partly", note="Ghi chú"), [], None, None),
        (Move(to=S.PROCESSING, note="Ghi chú"), [], None, None),
        (Move(to=S.SUSPENDED, by_import=True), [], None, None),
    ],
)
def test_reasons_that_are_required_and_shown(
    change: Move, missing: list[str], action_needed: str | None, reason: str | None
) -> None:
    if missing:
        refused = refusal(received(), change)
        assert isinstance(refused, ReasonRequired)
        assert refused.members == {"missing": missing}
    else:
        state = apply(received(), change, Given(NOW, CATALOGUE)).state
        assert (state.action_needed, state.reason) == (action_needed, reason)


def test_refusal_at_the_door_needs_a_reason_and_a_refused_result_keeps_its_own() -> None:
    assert isinstance(refusal(received(status=S.SUBMITTED), Move(to=S.REJECTED)), ReasonRequired)
    done = apply(received(), Move(to=S.COMPLETED, outcome="refused", note="Không đủ"), Given(NOW, CATALOGUE)).state
    assert apply(done, Move(to=S.RETURNED), Given(NOW, CATALOGUE)).state.reason == "Không đủ"
    assert moved(done, ("11-16 10:00", S.PROCESSING)).reason is None


@pytest.mark.parametrize(
    "change",
    [
        Move(to=S.PROCESSING, outcome="granted"),
        Move(to=S.COMPLETED, outcome="maybe"),
        Move(to=S.PROCESSING, items=("Đơn",)),
        Correction(reason="Nhầm"),
        Correction(reason="Nhầm", fields={"due_at": NOW}),
        Correction(reason="Nhầm", fields={"official_number": None}, applicant=("name",)),
    ],
)
def test_content_without_meaning_is_refused(change: Move | Correction) -> None:
    with_number = msgspec.structs.replace(received(), official_number="01234/2026/99901")
    assert isinstance(refusal(with_number, change), InvalidContent)


# -- where to, numbers, corrections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", TAKES)
@pytest.mark.parametrize("target", [*AGENCIES, "H9"])
def test_dossier_is_handed_only_to_whom_it_may_be(holder: str, target: str) -> None:
    state = msgspec.structs.replace(received(), agency=holder, origin="H2")
    move = Move(to=S.PROCESSING, agency=target)
    if target in {*TAKES[holder], "H2"}:
        applied = apply(state, move, Given(NOW, CATALOGUE))
        assert applied.state.agency == target
        assert applied.event is not None
        assert applied.event["came_from"] == (holder if target != holder else None)
    else:
        assert type(refusal(state, move)) is (UnknownAgency if target == "H9" else TargetNotAllowed)


def test_dossier_may_always_go_back_to_the_agency_that_received_it() -> None:
    state = msgspec.structs.replace(received(), agency="H1")
    assert state.origin not in TAKES["H1"]
    assert apply(state, Move(to=S.PROCESSING, agency="H1.1.1"), Given(NOW, CATALOGUE)).state.agency == "H1.1.1"


def test_history_may_have_gone_anywhere_that_is_known() -> None:
    stated = Move(to=S.PROCESSING, agency="H2.1", by_import=True)
    assert apply(received(), stated, Given(NOW, CATALOGUE)).state.agency == "H2.1"
    assert isinstance(refusal(received(), Move(to=S.PROCESSING, agency="H9", by_import=True)), UnknownAgency)


def test_official_number_is_bound_once() -> None:
    applied = apply(received(), Binding(number="01234/2026/99901"), Given(NOW, CATALOGUE))
    assert (applied.state.official_number, applied.state.version) == ("01234/2026/99901", 2)
    again = apply(applied.state, Binding(number="01234/2026/99901"), Given(NOW, CATALOGUE))
    assert (again.state, again.event) == (applied.state, None)
    assert isinstance(refusal(applied.state, Binding(number="01235/2026/99901")), NumberTaken)
    assert isinstance(refusal(received(), Binding(number="01234/2026/99901", elsewhere=True)), NumberTaken)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"service": "S.1"}, None),
        ({"agency": "H1.2"}, None),
        ({"official_number": "01234/2026/99901"}, None),
        ({"submitted_at": on("11-16 09:00")}, None),
        ({"submitted_at": on("11-16 10:01")}, BadDate),
        ({"submitted_at": on("01-01 00:00", 1980)}, BadDate),
        ({"service": "S.404"}, UnknownService),
        ({"service_case": "other"}, UnknownService),
        ({"agency": "H9"}, UnknownAgency),
    ],
)
def test_what_a_correction_may_change(fields: dict[str, Any], expected: type[Refusal] | None) -> None:
    state, correction = received(), Correction(reason="Nhầm", fields=fields, applicant=("name",))
    if expected is not None:
        assert type(refusal(state, correction)) is expected
        return
    applied = apply(state, correction, Given(NOW, CATALOGUE))
    assert applied.event is not None
    assert applied.event["detail"]["applicant"] == ["name"]
    assert applied.event["detail"].keys() == {*fields, "applicant"}
    after = msgspec.structs.replace(applied.state, tasks=state.tasks)
    assert after == msgspec.structs.replace(state, version=2, **fields)
    assert [task.agency for task in applied.state.tasks] == [fields.get("agency", "H1.1.1")]


def test_owner_changes_nothing_else_and_is_told_once() -> None:
    state = moved(received(), ("11-16 10:00", S.WITHDRAWN))  # of a final one too
    applied = apply(state, OwnerChange(owner="client-a", reason="Chuyển (ví dụ)"), Given(NOW, CATALOGUE))
    assert applied.state == msgspec.structs.replace(state, version=3, owner="client-a", source_seq=NOTHING_TOLD)
    told = applied.event and (applied.event["kind"], applied.event["owner"], applied.event["note"])
    assert told == ("owner_changed", "client-a", "Chuyển (ví dụ)")
    again = apply(applied.state, OwnerChange(owner="client-a"), Given(NOW, CATALOGUE))
    assert (again.state, again.event) == (applied.state, None)
    assert apply(applied.state, OwnerChange(owner=None), Given(NOW, CATALOGUE)).state.owner is None


def test_correction_needs_a_reason_and_a_number_of_its_own_and_an_order() -> None:
    state = received()
    assert isinstance(refusal(state, Correction(reason=" ", applicant=("name",))), ReasonRequired)
    taken = Correction(reason="Nhầm", fields={"official_number": "01234/2026/99901"}, elsewhere=True)
    assert isinstance(refusal(state, taken), NumberTaken)
    late = Correction(reason="Nhầm", fields={"submitted_at": on("11-16 11:00")})
    assert isinstance(refusal(state, late, on("11-17 10:00")), DatesOutOfOrder)


def test_nothing_is_written_to_a_removed_dossier() -> None:
    for state in (None, msgspec.structs.replace(received(), removed=True)):
        changes = [Move(to=S.PROCESSING), Binding(number="n"), Correction(reason="r", applicant=("name",))]
        for change in (*changes, OwnerChange(owner="client-a")):
            assert isinstance(refusal(state, change), UnknownDossier)


def test_final_dossier_moves_no_more() -> None:
    refused = refusal(moved(received(), ("11-16 10:00", S.WITHDRAWN)), Move(to=S.PROCESSING))
    assert isinstance(refused, MoveNotAllowed)
    assert refused.members == {"allowed": [], "current": "withdrawn", "version": 2}


# -- long timelines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "to", "kept"),
    [
        (CROWDED_BYTES - 1, S.PROCESSING, True),
        (CROWDED_BYTES, S.PROCESSING, False),
        (CROWDED_BYTES, S.COMPLETED, True),
        (CROWDED_BYTES, S.WITHDRAWN, True),
        (FULL_BYTES - 1, S.COMPLETED, True),
        (FULL_BYTES, S.COMPLETED, False),
    ],
)
def test_full_timeline_takes_no_step_but_the_status_moves(size: int, to: Status, kept: bool) -> None:
    state = msgspec.structs.replace(received(), timeline_bytes=size)
    applied = apply(state, Move(to=to, department="Phòng"), Given(NOW, CATALOGUE))
    assert applied.state.status is to
    assert applied.flags == (() if kept else (NOT_IN_TIMELINE,))
    assert (applied.state.timeline_bytes > size) is kept


def test_largest_step_fits_below_what_the_schema_allows() -> None:
    state = msgspec.structs.replace(received(), timeline_bytes=FULL_BYTES - 1)
    longest = Move(to=S.COMPLETED, department="\U0001f600" * 300)
    after = apply(state, longest, Given(NOW, CATALOGUE)).state
    assert after.timeline_bytes < 64 * 1024
    step = public_step(NOW.replace(microsecond=123_456), S.SUPPLEMENT_REQUIRED, state.agency, longest.department)
    # As jsonb: a header, two entries of four bytes for each member, padding, and the entry in the array.
    stored = sum(len(key) + len(str(msgspec.to_builtins(value)).encode()) + 8 for key, value in step.items()) + 12
    assert after.timeline_bytes - state.timeline_bytes >= stored


def test_names_are_those_of_the_books() -> None:
    assert rules.NOT_IN_TIMELINE == fold.NOT_IN_TIMELINE
    assert changes.IMAGE == fold.AFTER_IMAGE
    assert set(State.__struct_fields__) - {"last_at", "timeline_bytes", "tasks"} == set(fold.FOLDED_COLUMNS) - {
        "timeline"
    }


# -- histories against an oracle -------------------------------------------------------------------------------------

FIRST_DAY, DAYS = date(2019, 12, 1), 366 * 13
OFFICE = [
    time(7) <= each < time(11, 30) or time(13, 30) <= each < time(17)
    for each in (time(m // 60, m % 60) for m in range(1440))
]
"""Of each minute of a working day, whether the office is open."""


@cache
def minutes_until_days() -> tuple[list[int], list[int]]:
    """Office minutes before each day since FIRST_DAY, and before each minute of a working day: counted one by one."""
    within = [0]
    for is_open in OFFICE:
        within.append(within[-1] + is_open)
    before = [0]
    for n in range(DAYS):
        before.append(before[-1] + within[-1] * SHIPPED.is_working_day(FIRST_DAY + timedelta(days=n)))
    return before, within


def office_minutes(moment: datetime) -> int:
    """Office minutes from FIRST_DAY until then."""
    local = moment.astimezone(VIETNAM)
    before, within = minutes_until_days()
    n = (local.date() - FIRST_DAY).days
    working = before[n + 1] > before[n]
    return before[n] + (within[local.hour * 60 + local.minute] if working else 0)


def working_day_between(first: date, last: date) -> bool:
    return any(SHIPPED.is_working_day(first + timedelta(days=n)) for n in range(1, (last - first).days))


class Oracle:
    """A dossier as the rules' words have it; its due date is a number of office minutes."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = datetime(2020, 1, 1, tzinfo=VIETNAM) + timedelta(minutes=random.randrange(60 * 24 * 3652))
        self.service = SERVICES[random.choice(["S.1", "S.5", "S.7", "S.20"])]
        self.due: int | None = None
        self.accepted = random.random() < 0.5
        self.since: datetime | None = None
        self.policy = ""
        self.supplements = 0
        self.owner: str | None = None
        status = S.RECEIVED if self.accepted else S.SUBMITTED
        new = Reception(code="c", agency="H1.1.1", service=self.service.code, channel="online", status=status)
        first = apply(None, new, Given(self.now, CATALOGUE))
        self.state, self.events = first.state, [event(first)]
        self.last = self.now
        if self.accepted:
            self.due = self.anew(self.now)
        self.check(first.state)

    def anew(self, at: datetime) -> int:
        return office_minutes(at) + (self.service.times[0].hours or 0) * 60

    def something(self) -> None:
        random = self.random
        self.now += timedelta(minutes=random.choice([0, 1, 90, 600, 1440, 3000, 15_000, 200_000]))
        if random.random() < 0.15:
            which = random.choice(["number", "correction", "owner_change"])
            change: Change = getattr(self, which)()
            self.keep(apply(self.state, change, Given(self.now, CATALOGUE)))
            assert self.state.owner == self.owner
            return
        legal = MOVES[self.state.status]
        move = Move(
            to=random.choice(legal) if legal and random.random() < 0.9 else random.choice(list(Status)),
            at=None if random.random() < 0.4 else self.stated(),
            agency=None if random.random() < 0.8 else random.choice([*AGENCIES, "H9"]),
            department=random.choice([None, "Phòng A"]),
            note=random.choice([None, " ", "Lý do", "Lý do", "Lý do"]),
            by_import=random.random() < 0.2,
            override=random.choice([None, " ", "Căn cứ", "Căn cứ"]),
        )
        if move.to is S.SUPPLEMENT_REQUIRED and random.random() < 0.9:
            move = changed(move, items=("Đơn", "Bản sao"))
        if move.to is S.COMPLETED:
            move = changed(move, outcome=random.choice([None, "granted", "refused", "partly"]))
        at, why_not = self.judged(move)
        if why_not:
            with pytest.raises(tuple(why_not)):
                apply(self.state, move, Given(self.now, CATALOGUE))
            return
        applied = apply(self.state, move, Given(self.now, CATALOGUE))
        self.follow(move.to, at)
        assert applied.state.version == self.state.version + 1
        assert applied.state.last_at == at >= self.last
        self.last = at
        self.keep(applied)
        self.check(applied.state)

    def stated(self) -> datetime:
        at = self.now - timedelta(minutes=self.random.choice([-9, -3, 0, 4, 90, 1440, 4500, 9000]))
        return at.astimezone(self.random.choice([UTC, VIETNAM]))

    def judged(self, move: Move) -> tuple[datetime, set[type[Refusal]]]:
        """The time that is kept, and every reason against the move."""
        why: set[type[Refusal]] = set()
        at = move.at or max(self.now, self.last)
        if move.at is not None:
            if (at - self.now).total_seconds() > 300:
                why.add(BadDate)
            if (self.last - at).total_seconds() > 300:
                why.add(DatesOutOfOrder)
            at = self.now if at > self.now else at
            at = self.last if at < self.last else at
            if not move.by_import and working_day_between(at.astimezone(VIETNAM).date(), self.now.date()):
                why.add(BackdatedTooFar)
        if move.to not in MOVES[self.state.status]:
            why.add(MoveNotAllowed)
        target = move.agency or self.state.agency
        if target == "H9":
            why.add(UnknownAgency)
        elif not move.by_import and target not in {*TAKES[self.state.agency], self.state.origin}:
            why.add(TargetNotAllowed)
        silent = not (move.note or "").strip()
        if not move.by_import and (
            (silent and (move.to in {3, 5, 8} or move.outcome == "refused"))
            or (move.to == S.SUPPLEMENT_REQUIRED and not move.items)
        ):
            why.add(ReasonRequired)
        again = move.to == S.SUPPLEMENT_REQUIRED and self.supplements > 0
        if again and not move.by_import and not (move.override or "").strip():
            why.add(PolicyAsks)
        if not move.by_import and move.to == S.REJECTED and self.accepted:
            why.add(PolicyBlocks)
        return at, why

    def follow(self, to: Status, at: datetime) -> None:
        if self.since is not None and self.due is not None and to not in {3, 7}:
            if self.policy == "restart":
                self.due = self.anew(at)
            elif self.policy == "shift":
                self.due += office_minutes(at) - office_minutes(self.since)
        self.since = None
        if not self.accepted and to in {2, 4}:
            self.accepted, self.due = True, self.anew(at)
        if to in {5, 6, 8}:
            self.since = at
            by_status = {5: "supplement", 6: "payment", 8: "suspension"}
            self.policy = getattr(self.service, f"clock_after_{by_status[to]}")
        self.supplements += to == 5

    def check(self, state: State) -> None:
        assert (state.due_at and office_minutes(state.due_at)) == self.due
        assert state.supplements == self.supplements
        assert (state.pauses[-1].since if state.status.paused else None) == self.since
        assert all(
            one.until is not None and one.until <= two.since
            for one, two in zip(state.pauses, state.pauses[1:], strict=False)
        )
        dates = [state.submitted_at, state.received_at, state.finished_at, state.returned_at]
        known = [each for each in dates if each is not None]
        assert known == sorted(known)

    def number(self) -> Binding:
        return Binding(number=self.state.official_number or "01234/2026/99901")

    def correction(self) -> Correction:
        return Correction(reason="Nhầm", fields=self.random.choice([{}, {"channel": "postal"}]), applicant=("name",))

    def owner_change(self) -> OwnerChange:
        self.owner = self.random.choice([None, "client-a", "client-b"])
        return OwnerChange(owner=self.owner)

    def keep(self, applied: Applied) -> None:
        assert applied.state.version - self.state.version == (applied.event is not None)
        self.state = applied.state
        if applied.event is not None:
            self.events.append(event(applied))


def changed(move: Move, **more: Any) -> Move:
    return Move(**{name: getattr(move, name) for name in Move.__dataclass_fields__} | more)


def event(applied: Applied) -> dict[str, Any]:
    """The event as the books have it: `pauses` and `detail` as text."""
    assert applied.event is not None
    assert applied.event.keys() <= set(HASHED_COLUMNS)
    told = dict.fromkeys(HASHED_COLUMNS) | applied.event | {"erased": None}
    texts = {name: told[name] and jsonb_text(told[name]) for name in ("pauses", "detail")}
    return told | texts


def folds_back(state: State, events: list[dict[str, Any]]) -> None:
    """The state follows from the events; what is kept stands at its own time, and all else in order."""
    row = fold.folded(events)
    for name in set(fold.FOLDED_COLUMNS) - {"timeline", "pauses"}:
        assert row[name] == getattr(state, name), name
    assert row["pauses"] == jsonb_text(pauses_told(state.pauses))
    ats = [step["at"] for step in row["timeline"] if not step.get("late")]
    assert ats == sorted(ats)
    assert ats[-1] == state.last_at


def ends(state: State, now: datetime) -> State:
    """The dossier moved to its end by the fewest moves; to its hand-over, if that can be reached."""
    paths: deque[tuple[Status, tuple[Status, ...]]] = deque([(state.status, ())])
    found: dict[Status, tuple[Status, ...]] = {}
    while paths:
        status, path = paths.popleft()
        if status not in found:
            found[status] = path
            paths.extend((to, (*path, to)) for to in MOVES[status])
    goal = S.RETURNED if S.RETURNED in found else next(each for each in found if each.final)
    for to in found[goal]:
        state = apply(
            state, Move(to=to, note="Lý do", items=("Đơn",) * (to is S.SUPPLEMENT_REQUIRED)), Given(now, CATALOGUE)
        ).state
    return state


@settings(max_examples=HISTORIES)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_histories_are_what_the_oracle_says(seed: int, count: int) -> None:
    history = Oracle(Random(seed))
    for _ in range(count):
        history.something()
    folds_back(history.state, history.events)
    assert [each["version"] for each in history.events] == list(range(1, history.state.version + 1))
    for size in (0, CROWDED_BYTES, FULL_BYTES, 2 * FULL_BYTES):
        assert ends(msgspec.structs.replace(history.state, timeline_bytes=size), history.now).status.final


def test_oracle_knows_an_hour_of_work() -> None:
    assert office_minutes(on("11-16 08:00")) - office_minutes(on("11-13 16:00")) == 120
    assert office_minutes(on("11-16 14:00")) - office_minutes(on("11-16 11:00")) == 60
    assert set(ENDINGS) == {3, 7, 9, 10}
