"""Steps that other systems tell: whose turn it is, what is kept, and whole sequences against a slow oracle."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake.books import fold
from intake.refusals import BadDate, DatesOutOfOrder, MoveNotAllowed, UnknownDossier
from intake.rules.apply import IRREGULAR_MOVE, NOT_IN_TIMELINE, NOTHING_TOLD, apply
from intake.rules.changes import CROWDED_BYTES, Given, Move, Note, OwnerChange, Reception, State
from intake.rules.reconcile import AFTER_FINAL, LATE, NOT_OWNER, why_kept
from lookup.clock import VIETNAM
from lookup.status import MOVES, Status
from tests.intake.test_apply import CATALOGUE, HISTORIES, event, folds_back, moved, on, received, refusal

S = Status
NOW = on("11-16 10:00")
LATER = on("11-20 10:00")


def told(to: Status, at: str | None = None, seq: int | None = None, **more: Any) -> Move:
    return Move(to=to, at=at and on(at), source_seq=seq, by_sync=True, **more)  # type: ignore[arg-type]


def owned(seq: int | None = None, owner: str | None = "one", **more: Any) -> State:
    return received(owner=owner, source_seq=seq, by_sync=True, **more)


# -- whose turn it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "source", "stored", "seq", "kept"),
    [
        ("one", "one", 5, 6, ()),
        ("one", "one", None, 0, ()),
        ("one", "one", NOTHING_TOLD, 0, ()),
        ("one", "one", 5, 5, (LATE,)),
        ("one", "one", 5, 4, (LATE,)),
        ("one", "two", 5, 6, (NOT_OWNER,)),
        ("one", "two", 5, 4, (LATE, NOT_OWNER)),
        (None, "two", None, 0, ()),
        (None, "two", 5, 4, ()),  # there is no sequence that two clients share
    ],
)
def test_owner_sets_the_status_in_its_own_sequence(
    owner: str | None, source: str, stored: int | None, seq: int, kept: tuple[str, ...]
) -> None:
    assert why_kept(owned(stored, owner), source, S.PROCESSING, at=NOW, source_seq=seq) == kept


@pytest.mark.parametrize(("at", "kept"), [(None, ()), ("11-16 10:00", ()), ("11-16 09:59", (LATE,))])
def test_without_a_sequence_a_step_is_late_before_the_last_one(at: str | None, kept: tuple[str, ...]) -> None:
    assert why_kept(owned(7), "one", S.PROCESSING, at=at and on(at)) == kept  # type: ignore[arg-type]


def test_sequence_counts_more_than_the_clock() -> None:
    assert why_kept(owned(1), "one", S.PROCESSING, at=on("11-16 09:00"), source_seq=2) == ()


def test_nothing_follows_a_final_status() -> None:
    ended = moved(owned(1), ("11-16 11:00", S.WITHDRAWN))
    assert why_kept(ended, "one", S.PROCESSING, source_seq=2) == (AFTER_FINAL,)
    assert why_kept(ended, "one", S.PROCESSING, source_seq=1) == (LATE, AFTER_FINAL)
    assert isinstance(refusal(ended, told(S.PROCESSING), LATER), MoveNotAllowed)


@pytest.mark.parametrize(("owner", "kept"), [("one", ()), (None, (IRREGULAR_MOVE,))])
def test_only_the_owner_moves_outside_our_rules(owner: str | None, kept: tuple[str, ...]) -> None:
    state = owned(1, owner)
    assert why_kept(state, "one", S.RETURNED, source_seq=2) == kept
    assert why_kept(state, "one", S.PROCESSING, source_seq=2) == ()
    if not kept:
        applied = apply(state, told(S.RETURNED, "11-18 10:00"), Given(LATER, CATALOGUE))
        assert applied.flags == (IRREGULAR_MOVE,)
        assert (applied.state.finished_at, applied.state.returned_at) == (on("11-18 10:00"), on("11-18 10:00"))
        back = apply(
            moved(owned(1), ("11-16 11:00", S.COMPLETED)), told(S.SUPPLEMENT_REQUIRED), Given(LATER, CATALOGUE)
        )
        assert (back.flags, back.state.finished_at) == ((IRREGULAR_MOVE,), None)


# -- what is written -------------------------------------------------------------------------------------------------


def test_applied_step_of_any_day_needs_no_reason_and_supposes_no_outcome() -> None:
    state = owned(1, submitted_at=on("03-02 09:00"))
    assert state.owner == "one"
    applied = apply(state, told(S.COMPLETED, "04-01 09:00", 2), Given(LATER, CATALOGUE))
    assert (applied.state.outcome, applied.state.source_seq, applied.state.last_at) == (None, 2, on("04-01 09:00"))
    assert applied.event is not None
    assert (applied.event["source_seq"], applied.event["owner"], applied.event["flags"]) == (2, "one", None)
    refused = apply(state, told(S.SUSPENDED), Given(LATER, CATALOGUE)).state
    assert (refused.status, refused.reason) == (S.SUSPENDED, None)


def test_due_date_is_the_sources_own_where_it_tells_one() -> None:
    state = owned(due_at=on("12-01 09:00"))
    assert (state.due_at, state.calendar) == (on("12-01 09:00"), None)
    applied = apply(state, told(S.PROCESSING, due_at=on("12-09 09:00")), Given(LATER, CATALOGUE)).state
    assert (applied.due_at, applied.calendar) == (on("12-09 09:00"), None)
    assert isinstance(refusal(state, told(S.PROCESSING, due_at=on("11-16 09:00")), LATER), DatesOutOfOrder)
    old = owned(submitted_at=on("03-02 09:00"), of="S.1")
    assert old.due_at == on("03-03 09:00")  # long over, and told all the same


def test_step_told_before_the_last_one_is_recorded_with_it_and_keeps_what_was_told() -> None:
    state = owned(1)
    applied = apply(state, told(S.PROCESSING, "11-16 09:57", 2), Given(LATER, CATALOGUE))
    assert applied.event is not None
    assert applied.event["occurred_at"] == applied.state.last_at == NOW
    assert applied.event["detail"] == {"told_at": "2026-11-16T02:57:00+00:00"}
    ahead = apply(state, told(S.PROCESSING, "11-20 10:04", 2), Given(LATER, CATALOGUE))
    assert (ahead.event or {})["occurred_at"] == LATER


@pytest.mark.parametrize(
    ("at", "refused"), [("11-20 10:06", BadDate), ("11-16 09:54", DatesOutOfOrder), ("11-16 09:55", None)]
)
def test_times_that_cannot_be(at: str, refused: type[Exception] | None) -> None:
    state = owned(1)
    for change in (told(S.PROCESSING, at, 2), Note(to=S.PROCESSING, why=(LATE,), at=on(at))):
        if refused:
            assert type(refusal(state, change, LATER)) is refused
        else:
            apply(state, change, Given(LATER, CATALOGUE))


def test_note_leaves_the_status_and_stands_at_its_own_time() -> None:
    state = moved(owned(5), ("11-18 10:00", S.PROCESSING))
    note = Note(to=S.SUPPLEMENT_REQUIRED, why=(LATE,), at=on("11-17 10:00"), note=" Thiếu ", agency="H1", source_seq=4)
    applied = apply(state, note, Given(LATER, CATALOGUE))
    assert applied.event is not None
    assert (applied.event["kind"], applied.event["status"], applied.event["step_status"]) == ("noted", 4, 5)
    assert (applied.event["occurred_at"], applied.event["note"]) == (on("11-17 10:00"), "Thiếu")
    assert (applied.event["source_seq"], applied.event["detail"]) == (4, {"told_agency": "H1"})
    assert (applied.event["flags"], applied.flags) == ([LATE], (LATE,))
    after = applied.state
    assert (after.version, after.status, after.source_seq, after.last_at) == (3, S.PROCESSING, 5, on("11-18 10:00"))
    full = msgspec.structs.replace(state, timeline_bytes=CROWDED_BYTES)
    assert apply(full, note, Given(LATER, CATALOGUE)).flags == (LATE, NOT_IN_TIMELINE)


def test_new_owner_begins_a_sequence_of_its_own() -> None:
    state = owned(500)
    applied = apply(state, OwnerChange(owner="two", reason="Đổi hệ thống"), Given(LATER, CATALOGUE))
    assert applied.event is not None
    assert (applied.event["kind"], applied.event["owner"], applied.event["note"]) == (
        *("owner_changed", "two"),
        "Đổi hệ thống",
    )
    assert why_kept(applied.state, "two", S.PROCESSING, source_seq=0) == ()
    assert why_kept(applied.state, "one", S.PROCESSING, source_seq=501) == (NOT_OWNER,)
    assert apply(applied.state, OwnerChange(owner="two"), Given(LATER, CATALOGUE)).event is None
    assert isinstance(refusal(None, OwnerChange(owner="two")), UnknownDossier)


# -- sequences against an oracle -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """A step as a source told it, in the order in which it arrived."""

    source: str
    to: Status
    seq: int | None
    at: datetime


def says(arrived: list[Told], owner: str | None) -> tuple[list[bool], Status]:
    """Which of these set the status, and the status: each judged anew by everything that came before it."""
    set_it: list[bool] = []
    for n, step in enumerate(arrived):
        before = [each for each, applied in zip(arrived[:n], set_it, strict=True) if applied]
        status = before[-1].to if before else S.RECEIVED
        seqs = [each.seq for each in before if each.seq is not None]
        times = [BEGAN]
        for each in before:
            times.append(max(each.at, times[-1]))
        by_time = step.seq is None or owner is None
        newer = step.at >= times[-1] if by_time else all(step.seq > each for each in seqs)  # type: ignore[operator]
        allowed = step.to in MOVES[status] or owner is not None
        set_it.append(newer and bool(MOVES[status]) and owner in (None, step.source) and allowed)
    last = [step.to for step, applied in zip(arrived, set_it, strict=True) if applied]
    return set_it, last[-1] if last else S.RECEIVED


BEGAN = datetime(2026, 3, 2, 9, 0, tzinfo=VIETNAM)


@settings(max_examples=HISTORIES)
@given(st.integers(0, 2**32), st.integers(1, 14))
def test_sequences_are_what_the_oracle_says(seed: int, count: int) -> None:
    random = Random(seed)
    owner = random.choice([None, "one", "one"])
    new = Reception(
        code="c",
        agency="H1.1.1",
        service="S.20",
        channel="direct",
        status=S.RECEIVED,
        owner=owner,
        by_sync=True,
        submitted_at=BEGAN,
    )
    clock = Given(LATER, CATALOGUE)
    first = apply(None, new, clock)
    state, events, arrived, kept = first.state, [event(first)], [], []
    for _ in range(count):
        legal = MOVES[state.status]
        step = Told(
            random.choice(["one", "one", "two"]),
            random.choice(legal) if legal and random.random() < 0.7 else random.choice(list(Status)),
            random.choice([None, random.randrange(12)]),
            BEGAN + timedelta(minutes=random.randrange(300_000)),
        )
        arrived.append(step)
        why = why_kept(state, step.source, step.to, at=step.at, source_seq=step.seq)
        change: Note | Move = Note(to=step.to, why=why, at=step.at, source_seq=step.seq)
        if not why:
            change = Move(to=step.to, at=step.at, source_seq=step.seq, by_sync=True)
        applied = apply(state, change, clock)
        assert applied.state.version == state.version + 1
        state = applied.state
        events.append(event(applied))
        kept.append(bool(why))
    set_it, status = says(arrived, owner)
    assert [not each for each in set_it] == kept
    assert state.status is status
    folds_back(state, events)
    row = fold.folded(events)
    assert [step.get("late", False) for step in row["timeline"][1:]] == kept
    assert [step["status"] for step in row["timeline"][1:]] == [step.to.slug for step in arrived]
