"""A line for a code that is stored: appended, already here, refused by name, or kept."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.refusals import HistoryDiffers, NumberTaken
from intake.rules.reconcile import Result, Step, Told, reconcile

START = datetime(2026, 11, 16, 1, tzinfo=UTC)
STEPS = tuple(Step(START + timedelta(hours=n), status, "H1") for n, status in enumerate((2, 4, 5, 4, 9, 10)))
STORED = Told(service="S", service_case="default", agency="H1", submitted_at=START, person=bytes(32), steps=STEPS[:3])
NUMBER, OTHER = "01234/2026/99901", "01235/2026/99901"


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "differs",
    [
        {"service": "T"},
        {"service_case": "other"},
        {"agency": "H2"},
        {"submitted_at": START - timedelta(seconds=1)},
        {"person": b"\1" * 32},
        {"person": b"\1" * 32, "agency": "H2"},
    ],
)
def test_another_dossier_under_the_code_is_refused_by_name(differs: dict[str, Any], strict: bool) -> None:
    found = reconcile(STORED, replace(STORED, **differs), strict=strict)
    assert (found.result, found.steps) == (Result.REFUSE, ())
    assert isinstance(found.refusal, HistoryDiffers)
    assert set(found.refusal.members["differs"]) == set(differs)  # type: ignore[call-overload]


@given(st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_history_with_the_same_beginning_agrees(stored: int, told: int, strict: bool) -> None:
    found = reconcile(replace(STORED, steps=STEPS[:stored]), replace(STORED, steps=STEPS[:told]), strict=strict)
    assert found.steps == STEPS[stored:told]
    assert found.result is (Result.APPEND if told > stored else Result.ALREADY_HERE)
    assert found.refusal is None


@given(st.data())
def test_history_that_differs_is_refused_or_kept(data: st.DataObject) -> None:
    known = data.draw(st.integers(1, 6))
    at = data.draw(st.integers(0, known - 1))
    change: dict[str, Any] = data.draw(
        st.sampled_from([{"status": 8}, {"agency": "H2"}, {"at": START + timedelta(minutes=30)}])
    )
    other = replace(STEPS[at], **change)
    line = replace(STORED, steps=(*STEPS[:at], other, *STEPS[at + 1 :]))
    stored = replace(STORED, steps=STEPS[:known])
    refused = reconcile(stored, line)
    assert refused.result is Result.REFUSE
    assert refused.refusal is not None
    assert refused.refusal.detail == f"Its step {at + 1} is not the one that is stored."
    kept = reconcile(stored, line, strict=False)
    assert (kept.result, kept.steps) == (Result.KEEP, (other, *STEPS[known:]))


def test_gap_in_a_line_is_refused_and_a_sync_has_nothing_to_keep_of_it() -> None:
    line = replace(STORED, steps=(STEPS[0], STEPS[2]))
    assert reconcile(STORED, line).result is Result.REFUSE
    assert reconcile(STORED, line, strict=False).result is Result.ALREADY_HERE


@pytest.mark.parametrize(
    ("stored", "told", "elsewhere", "result", "number"),
    [
        (None, NUMBER, False, Result.APPEND, NUMBER),
        (NUMBER, NUMBER, False, Result.ALREADY_HERE, None),
        (NUMBER, None, False, Result.ALREADY_HERE, None),
        (NUMBER, OTHER, False, Result.REFUSE, None),
        (None, NUMBER, True, Result.REFUSE, None),
        (NUMBER, NUMBER, True, Result.ALREADY_HERE, None),  # its own is no other's
    ],
)
@pytest.mark.parametrize("steps", [0, 3])
def test_official_number_is_taken_if_it_is_free(
    stored: str | None, told: str | None, elsewhere: bool, result: Result, number: str | None, steps: int
) -> None:
    line = replace(STORED, official_number=told, steps=STEPS[:steps])
    found = reconcile(replace(STORED, official_number=stored), line, number_elsewhere=elsewhere)
    assert (found.result, found.number) == (result, number)
    assert isinstance(found.refusal, NumberTaken) is (result is Result.REFUSE)


def test_refusal_of_a_number_says_whose_it_is() -> None:
    bound, line = replace(STORED, official_number=NUMBER), replace(STORED, official_number=OTHER)
    for stored, elsewhere, why in (
        (bound, False, f"differs from {NUMBER}"),
        (bound, True, "belongs to another dossier"),
        (STORED, True, "belongs to another dossier"),
    ):
        refused = reconcile(stored, line, number_elsewhere=elsewhere).refusal
        assert refused is not None
        assert refused.detail == f"The official number {OTHER} {why}."
    assert reconcile(STORED, line).number == OTHER  # unless it is said to be another's, it is free
