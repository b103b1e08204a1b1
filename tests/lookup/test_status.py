"""The ten statuses and the moves between them are a table; this holds the table to what it promises."""

import json

import pytest

from lookup.status import FIRST, MOVES, Status
from lookup.web import api
from lookup.web.phrases import status_words

S = Status
ALLOWED = {
    S.SUBMITTED: {2, 3, 5, 7},
    S.RECEIVED: {4, 5, 6, 7, 8, 9},
    S.REJECTED: set(),
    S.PROCESSING: {4, 5, 6, 7, 8, 9},
    S.SUPPLEMENT_REQUIRED: {2, 4, 7, 8, 3},
    S.PAYMENT_REQUIRED: {4, 7, 8, 9},
    S.WITHDRAWN: set(),
    S.SUSPENDED: {4, 7, 10},
    S.COMPLETED: {10, 4},
    S.RETURNED: set(),
}
"""The moves as Decree 61/2018/NĐ-CP, articles 17 to 20, has them, written out a second time."""


@pytest.mark.parametrize("before", Status)
def test_moves_are_those_of_the_decree(before: Status) -> None:
    assert {after for after in Status if before.may_become(after)} == ALLOWED[before]


def test_national_numbers_run_from_one_to_ten() -> None:
    assert [status.value for status in Status] == list(range(1, 11))


@pytest.mark.parametrize("status", Status)
def test_slug_leads_back_to_its_status(status: Status) -> None:
    assert Status.from_slug(status.slug) is status


@pytest.mark.parametrize("slug", ["", "SUBMITTED", "4", "done", "processing "])
def test_unknown_slug_is_refused(slug: str) -> None:
    with pytest.raises(ValueError, match="unknown status"):
        Status.from_slug(slug)


def test_rejected_withdrawn_and_returned_are_final() -> None:
    assert {status for status in Status if status.final} == {S.REJECTED, S.WITHDRAWN, S.RETURNED}


def test_clock_stands_still_while_others_are_awaited() -> None:
    assert {status for status in Status if status.paused} == {S.SUPPLEMENT_REQUIRED, S.PAYMENT_REQUIRED, S.SUSPENDED}


def test_every_status_can_be_reached_and_an_end_from_every_status() -> None:
    reached = set(FIRST)
    for _ in Status:
        reached |= {after for before in reached for after in MOVES[before]}
    assert reached == set(Status)
    ending = {status for status in Status if status.final}
    for _ in Status:
        ending |= {status for status in Status if ending & set(MOVES[status])}
    assert ending == set(Status)


def test_only_processing_may_follow_itself() -> None:
    assert [status for status in Status if status.may_become(status)] == [S.PROCESSING]


def test_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        MOVES[S.RETURNED] = (S.PROCESSING,)  # type: ignore[index]


def test_statuses_are_named_and_explained_in_both_languages() -> None:
    document = json.loads(api._STATUSES.content)
    assert [each["status_number"] for each in document["statuses"]] == [status.value for status in Status]
    for each in document["statuses"]:
        for lang, ending in (("vi", ""), ("en", "_en")):
            words = status_words(each["status"], lang)
            told = each[f"name{ending}"], each[f"explained{ending}"], each[f"next_step{ending}"]
            assert told == (words.name, words.explained, words.next_step)
