"""How each move changes a dossier's five dates: every move there is, under every policy a service can have."""

from datetime import date, datetime
from typing import Any

import msgspec
import pytest

from intake.rules.due_dates import Dates, dates_after, due_date
from lookup.catalogue import Service, TimeLimit
from lookup.clock import VIETNAM
from lookup.status import MOVES, Status

S = Status
ONE_DAY = Service("S.1", "Ví dụ", "Example", "F.1", False, (TimeLimit("any", 8, date(2020, 1, 1)),))
KEPT = msgspec.structs.replace(ONE_DAY, clock_after_supplement="keep", clock_after_suspension="keep")


def at(text: str) -> datetime:
    """`11-16 10:00` of 2026 on a Vietnamese clock; the sixteenth of November is a Monday."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


RECEIVED, DUE = at("11-16 10:00"), at("11-18 10:00")
PAUSED, NOW = at("11-17 10:00"), at("11-20 10:00")
FINISHED = at("11-19 10:00")
ANEW = at("11-23 10:00")
"""A working day after NOW, which is a Friday."""
MOVED = at("11-23 10:00")
"""DUE and the three working days between PAUSED and NOW."""


def dossier(status: Status, **fields: Any) -> dict[str, Any]:
    given = {"received_at": RECEIVED, "due_at": DUE, "finished_at": None, "paused_at": None}
    given |= {"paused_at": PAUSED} if status in (S.SUPPLEMENT_REQUIRED, S.PAYMENT_REQUIRED, S.SUSPENDED) else {}
    given |= {"finished_at": FINISHED} if status is S.COMPLETED else {}
    return {"status": status.value, "service_case": "default", "channel": "direct"} | given | fields


BEGUN = {
    S.RECEIVED: Dates(RECEIVED, DUE, None, None, None),
    S.PROCESSING: Dates(RECEIVED, DUE, None, None, None),
    S.SUPPLEMENT_REQUIRED: Dates(RECEIVED, DUE, None, None, NOW),
    S.PAYMENT_REQUIRED: Dates(RECEIVED, DUE, None, None, NOW),
    S.SUSPENDED: Dates(RECEIVED, DUE, None, None, NOW),
    S.WITHDRAWN: Dates(RECEIVED, DUE, None, None, None),
    S.REJECTED: Dates(RECEIVED, DUE, None, None, None),
    S.COMPLETED: Dates(RECEIVED, DUE, NOW, None, None),
    S.RETURNED: Dates(RECEIVED, DUE, NOW, NOW, None),
}
"""The dates after a move from a status that is no pause, by the status it leads to."""


@pytest.mark.parametrize("service", [ONE_DAY, KEPT, None], ids=["one day", "kept", "unknown"])
@pytest.mark.parametrize(
    ("before", "after"), [(before, after) for before in (S.RECEIVED, S.PROCESSING) for after in MOVES[before]]
)
def test_move_of_a_dossier_at_work_leaves_its_due_date(before: Status, after: Status, service: Service | None) -> None:
    assert dates_after(dossier(before), after, NOW, service) == BEGUN[after]


@pytest.mark.parametrize("after", [S.RETURNED, S.PROCESSING])
def test_dossier_that_is_finished_stays_finished_at_that_time_unless_it_is_reopened(after: Status) -> None:
    expected = Dates(RECEIVED, DUE, FINISHED, NOW, None) if after is S.RETURNED else BEGUN[after]
    assert dates_after(dossier(S.COMPLETED), after, NOW, ONE_DAY) == expected


@pytest.mark.parametrize("after", MOVES[S.SUBMITTED])
def test_clock_begins_when_the_dossier_is_received_and_not_before(after: Status) -> None:
    submitted = dossier(S.SUBMITTED, received_at=None, due_at=None)
    begins = after is S.RECEIVED
    paused_at = NOW if after is S.SUPPLEMENT_REQUIRED else None
    expected = Dates(NOW if begins else None, ANEW if begins else None, None, None, paused_at)
    assert dates_after(submitted, after, NOW, ONE_DAY) == expected


@pytest.mark.parametrize("after", [S.RECEIVED, S.PROCESSING])
def test_dossier_that_was_sent_back_before_reception_begins_its_clock_on_its_return(after: Status) -> None:
    asked = dossier(S.SUPPLEMENT_REQUIRED, received_at=None, due_at=None)
    assert dates_after(asked, after, NOW, ONE_DAY) == Dates(NOW, ANEW, None, None, None)


def test_due_date_that_a_source_gave_stays_where_the_catalogue_has_no_limit() -> None:
    asked = dossier(S.SUBMITTED, received_at=None)
    assert dates_after(asked, S.RECEIVED, NOW, None).due_at == DUE


def test_due_date_is_counted_in_the_unit_of_the_time_limit() -> None:
    def due(**changed: Any) -> datetime | None:
        limit = msgspec.structs.replace(ONE_DAY.times[0], **changed)
        of = msgspec.structs.replace(ONE_DAY, times=(limit,))
        return due_date(of, "default", "online", at("11-20 10:00"))

    assert due() == at("11-23 10:00")
    assert due(calendar_days=5) == at("11-25 10:00")
    assert due(at_once=True) == at("11-20 17:00")


PAUSES = [
    (before, after) for before in (S.SUPPLEMENT_REQUIRED, S.PAYMENT_REQUIRED, S.SUSPENDED) for after in MOVES[before]
]
ENDS = (S.RECEIVED, S.PROCESSING, S.COMPLETED, S.RETURNED)


@pytest.mark.parametrize(("before", "after"), PAUSES)
@pytest.mark.parametrize("policy", ["restart", "shift", "keep"])
def test_end_of_a_pause_moves_the_due_date_by_the_policy_for_that_pause(
    policy: str, before: Status, after: Status
) -> None:
    other = {"restart": "keep", "shift": "keep", "keep": "restart"}[policy]
    supplement = before is S.SUPPLEMENT_REQUIRED
    service = msgspec.structs.replace(
        KEPT,
        times=(TimeLimit("any", 16, date(2020, 1, 1)),),  # two days, so that anew is another day than moved
        clock_after_supplement=policy if supplement else other,
        clock_after_suspension=other if supplement else policy,
    )
    anew = at("11-25 10:00")  # the 24th is the Day of Vietnamese Culture
    due = {"restart": anew, "shift": MOVED, "keep": DUE}[policy] if after in ENDS else DUE
    finished = NOW if after in (S.COMPLETED, S.RETURNED) else None
    returned = NOW if after is S.RETURNED else None
    paused = PAUSED if after is S.SUSPENDED else None  # one pause after another is one pause
    assert dates_after(dossier(before), after, NOW, service) == Dates(RECEIVED, due, finished, returned, paused)


@pytest.mark.parametrize("due", [DUE, None])
def test_due_date_stays_after_a_pause_where_the_service_is_unknown_or_there_was_none(due: datetime | None) -> None:
    paused = dossier(S.SUPPLEMENT_REQUIRED, due_at=due)
    assert dates_after(paused, S.PROCESSING, NOW, None).due_at == due
    assert dates_after(dossier(S.SUSPENDED, due_at=None), S.PROCESSING, NOW, ONE_DAY).due_at is None


def test_due_date_stays_where_the_begin_of_the_pause_is_unknown_and_the_limit_where_there_is_none() -> None:
    assert dates_after(dossier(S.SUSPENDED, paused_at=None), S.PROCESSING, NOW, ONE_DAY).due_at == DUE
    without = msgspec.structs.replace(ONE_DAY, times=())
    assert dates_after(dossier(S.SUPPLEMENT_REQUIRED), S.PROCESSING, NOW, without).due_at == DUE
    assert due_date(without, "default", "direct", NOW) is None
    assert due_date(None, "default", "direct", NOW) is None
