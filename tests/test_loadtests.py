"""The load test's own judgement: its checks see what is wrong, its verdict what is not kept, and it runs.

Locust patches the process that imports it. It is only ever run as one of its own.
"""

import asyncio
import contextlib
import ipaddress
import json
import os
import random
import re
import signal
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from loadtests import addresses, answers, curves, pages, slow_line
from loadtests.answers import Answer, Asked, Limited, Shown, Status, Unavailable, Wrong
from loadtests.bench.servers import UNCOUNTED
from loadtests.codes import MISTYPED, Dossier, Shelf, ShownVersions, address, new_number, spelled, unknown
from loadtests.cold import make_cold
from loadtests.slow_line import Line
from loadtests.system import stage
from loadtests.target import NoTarget, Target, transition
from loadtests.verdict import (
    ATTACKERS,
    INTAKE,
    NEIGHBOURS,
    NEIGHBOURS_MISSES,
    NEIGHBOURS_WALKED,
    OFFICES,
    TOLD,
    Budget,
    Counts,
    Lag,
    Tally,
    asked_as,
    judge,
    passed,
    resisted,
    told,
    warmed,
)
from lookup import code as codes
from lookup.situation import completion
from lookup.status import Status as DossierStatus
from lookup.upkeep import freshness_sli
from lookup.web.phrases import status_words
from ops.http.client_address import Networks
from ops.local.ports import free_port
from tests.house import House as RunningHouse
from tests.house import until
from tests.lookup import views
from tests.test_layers import imported, sources

ROOT = Path(__file__).parent.parent
CODE = "G99.01.02-261008-0975"
STATUSES = {"processing": Status(4, False, 0.5, ("completed",)), "returned": Status(10, True, 1.0, ())}
KNOWN = {
    each.slug: Status(
        *(
            each.value,
            each.final,
            completion(each, False, ()),
            tuple(to.slug for to in DossierStatus if each.may_become(to)),
        ),
        *(status_words(each.slug, lang).name for lang in ("vi", "en")),
    )
    for each in DossierStatus
}
"""As the lookup publishes them."""
FRESH = {"content-type": "application/json", "cache-control": "public, no-cache", "etag": '"2-json-1"', "age": "0"}
UNSTORED = {"content-type": "application/json", "cache-control": "no-store", "age": "90"}
PATIENT = """
availability.at_least = 0.9
latency = { at_least = 0.9, within_ms = 9000 }
freshness = { at_least = 0.5, within_ms = 4900 }
intake.at_least = 0.9
errors.at_most = 0
"""


def record(**changes: Any) -> dict[str, Any]:
    return {
        "code": CODE,
        "status": "processing",
        "status_number": 4,
        "final": False,
        "completion": 0.5,
        "version": 2,
    } | changes


def answer(content: Any, headers: dict[str, str] = FRESH, status: int = 200) -> Answer:
    return Answer(status, headers, json.dumps(content).encode())


def tally(**counts: int) -> Tally:
    return Tally(**{"good": 10_000, "quick": 10_000, "fresh": 1000} | counts)


def counted(lookups: Tally | None = None, intake: Tally | None = None, **others: Tally) -> Counts:
    """A run's counts: of citizens at the lookup, of everybody at the intake, and of others."""
    counts = Counts()
    tallies = {"citizens": lookups or tally(), INTAKE: intake or Tally(good=1000), **others}
    counts.add({"tallies": {who: asdict(each) for who, each in tallies.items()}, "warmth": [], "lag": (0, 0, 0.0)})
    return counts


def kept(counts: Counts) -> dict[str, bool]:
    return {row.sli: row.kept for row in judge(counts, Budget.read())}


# -- the verdict ------------------------------------------------------------------------------------------------------


def test_what_was_accepted_is_not_rejected_and_what_is_asked_for_again_has_its_reason() -> None:
    asked = Status(5, False, 0.25, ("received", "rejected"))
    assert asked.ways_on(accepted=False) == ["received", "rejected"]
    assert asked.ways_on(accepted=True) == ["received"]
    assert {"items", "override"} <= transition("supplement_required", 2).keys()
    assert "override" not in transition("processing", 2)


def test_budget_is_what_is_promised() -> None:
    slos = {slo["name"]: slo for slo in tomllib.loads((ROOT / "k8s/components/monitoring/slo.toml").read_text())["slo"]}
    bound = re.search(r'_bucket\{[^}]*le="([0-9.]+)"', slos["lookup-latency"]["errors"])
    assert bound is not None
    assert Budget.read() == Budget(
        availability=slos["lookup-availability"]["objective"],
        latency=slos["lookup-latency"]["objective"],
        latency_ms=float(bound[1]) * 1000,
        freshness=slos["lookup-freshness"]["objective"],
        freshness_ms=freshness_sli.LATE / 1000,
        intake=slos["intake-availability"]["objective"],
        errors=0,
    )


def test_budget_that_names_an_slo_there_is_none_of_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(PATIENT.replace("availability.at_least = 0.9", 'availability.slo = "lookup-beauty"'))
    with pytest.raises(KeyError, match="lookup-beauty"):
        Budget.read(path)


def test_budget_without_an_sli_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    for missing in ("availability", "latency", "freshness", "intake", "errors"):
        path.write_text("\n".join(line for line in PATIENT.splitlines() if not line.startswith(missing)))
        with pytest.raises(KeyError, match=missing):
            Budget.read(path)


def test_run_that_keeps_everything_passes() -> None:
    assert kept(counted()) == dict.fromkeys(("availability", "latency", "freshness", "intake", "errors"), True)


def test_run_in_which_nothing_was_counted_keeps_nothing() -> None:
    assert kept(Counts()) == dict.fromkeys(("availability", "latency", "freshness", "intake", "errors"), False)


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "sli"),
    [
        (counted(tally(good=9995, bad=5)), counted(tally(good=9994, bad=6)), "availability"),
        (counted(tally(quick=9900, slow=100)), counted(tally(quick=9899, slow=101)), "latency"),
        (counted(tally(fresh=990, late=10)), counted(tally(fresh=989, late=11)), "freshness"),
        (counted(intake=Tally(good=9995, bad=5)), counted(intake=Tally(good=9994, bad=6)), "intake"),
        (counted(tally(errors=0)), counted(tally(errors=1)), "errors"),
        (counted(), counted(intake=Tally(good=1000, errors=1)), "errors"),
    ],
)
def test_each_sli_fails_alone_just_beyond_its_budget(at_the_limit: Counts, beyond: Counts, sli: str) -> None:
    assert passed(judge(at_the_limit, Budget.read()))
    assert [name for name, was_kept in kept(beyond).items() if not was_kept] == [sli]


def test_run_without_a_single_change_fails_for_freshness() -> None:
    assert [name for name, was_kept in kept(counted(tally(fresh=0))).items() if not was_kept] == ["freshness"]


def test_share_that_misses_its_budget_is_not_rounded_up_to_it() -> None:
    rows = judge(counted(tally(good=99_949_999, bad=50_001)), Budget.read())
    assert rows[0].figure.startswith("99.949 %")
    assert not rows[0].kept


def test_answers_are_counted_by_what_was_wrong_with_them() -> None:
    counts = Tally()
    counts.answer(None, quick=True)
    counts.answer(Wrong("another dossier"), quick=False)
    counts.answer(Unavailable("answered 503"), quick=True)
    counts.answer(Limited("answered 429"), quick=True)
    counts.change(in_time=False)
    assert counts == Tally(good=1, bad=2, not_counted=1, quick=1, slow=1, late=1, errors=1)


def test_what_one_process_counted_is_added_to_another_once() -> None:
    here, there = counted(), counted(tally(errors=2), visitors=Tally(good=1))
    there.warmth.note(100, True)
    there.lag.note(0.3)
    here.add(there.take())
    here.add(there.take())
    assert here.lookups() == tally(good=20_001, quick=20_000, fresh=2000, errors=2)
    assert here.of(INTAKE) == Tally(good=2000)
    assert here.warmth.seconds() == [(100, 1, 1)]
    assert here.lag == Lag(1, 1, 0.3)


def test_whoever_is_no_citizen_is_left_out_of_the_slis() -> None:
    counts = counted(attackers=Tally(good=1, bad=900, slow=900, errors=1))
    assert not passed(judge(counts, Budget.read()))
    assert passed(judge(counts, Budget.read(), frozenset({ATTACKERS})))


ATTACKED = {ATTACKERS: Tally(good=100, quick=50, slow=50, not_counted=100), NEIGHBOURS: Tally(good=10, quick=10)}


@pytest.mark.parametrize(
    ("who", "instead", "row"),
    [
        (ATTACKERS, Tally(good=100, quick=100, not_counted=99), "attackers refused"),
        (ATTACKERS, Tally(), "attackers refused"),
        (NEIGHBOURS, Tally(good=10, quick=10, not_counted=1), "neighbours refused"),
        (NEIGHBOURS, Tally(), "neighbours refused"),
        (NEIGHBOURS_WALKED, Tally(bad=1, quick=1, errors=1), "contradictions to the others of them"),
    ],
)
def test_attack_is_resisted_only_if_no_other_client_notices(who: str, instead: Tally, row: str) -> None:
    assert passed(resisted(counted(**ATTACKED)))
    rows = resisted(counted(**ATTACKED | {who: instead}))
    assert [each.sli for each in rows if not each.kept] == [row]


@pytest.mark.parametrize(
    ("question", "counted_as"),
    [
        ("/api/v1/dossiers/{code}", NEIGHBOURS_WALKED),
        ("/tra-cuu/{code}", NEIGHBOURS_WALKED),
        ("/api/v1/dossiers/{code} + key", NEIGHBOURS),
        ("/tra-cuu/{code} + cookie", NEIGHBOURS),
        ("/api/v1/dossiers/{code} unknown", NEIGHBOURS_MISSES),
    ],
)
def test_only_what_the_attacker_asks_for_next_is_counted_apart(question: str, counted_as: str) -> None:
    walked, other = (f"http://127.0.0.1/any/{code}" for code in ("G99.12.03-260101-0031", "G99.12.03-260102-0031"))
    assert asked_as(question, walked, "G99.12.03-260101-") == counted_as
    assert asked_as(question, other, "G99.12.03-260101-") == (
        NEIGHBOURS_MISSES if counted_as == NEIGHBOURS_MISSES else NEIGHBOURS
    )


def warmth(*shares: float) -> Counts:
    """Ten lookups a second, of which these shares found a copy."""
    counts = Counts()
    for second, share in enumerate(shares, 1_000_000):
        counts.warmth.note(second, round(share * 10), 10)
    return counts


def test_office_that_looks_at_its_own_change_makes_no_house_cold() -> None:
    counts = Counts()
    for second in range(10):
        counts.came_from("citizens", second, cache=True)
        counts.came_from(OFFICES, second, cache=False)
    assert counts.warmth.seconds() == [(second, 1, 1) for second in range(10)]
    assert passed(warmed(counts))


@pytest.mark.parametrize(
    ("shares", "after"),
    [
        ([1.0] * 8, 0),
        ([0.0, 0.0, 0.0, *[1.0] * 8], 3),
        ([0.0, 0.0, 0.0, *[0.9] * 8], 3),
        ([0.0, *[1.0] * 8, 0.0, *[1.0] * 9], 10),
        ([0.0, *[0.8] * 20], None),
        ([1.0] * 3, None),
        ([], None),
    ],
    ids=["from the first", "after three", "just enough", "not for good", "never", "too short", "no visitors"],
)
def test_house_is_warm_once_it_stays_so(shares: list[float], after: int | None) -> None:
    counts = warmth(*shares)
    assert counts.warmth.warm_after() == after
    assert passed(warmed(counts)) is (after is not None)


def test_followers_are_told_if_nearly_all_is_in_time_and_something_was() -> None:
    counts = Counts()
    assert not passed(told(counts))
    for late in range(100):
        counts.of(TOLD).change(in_time=late > 0)
    assert passed(told(counts))
    counts.of(TOLD).change(in_time=False)
    assert not passed(told(counts))
    assert counts.lookups(frozenset({TOLD})).late == 0, "the profiles judge them apart"


# -- what is right, and what is not -----------------------------------------------------------------------------------


def test_right_answers_are_accepted() -> None:
    assert answers.record(answer(record()), CODE, STATUSES) == Shown(CODE, 2, "processing", False, '"2-json-1"')
    stale = record(stale=True, as_of="2026-10-08T09:00:00+07:00")
    assert answers.record(answer(stale, UNSTORED), CODE, STATUSES).stale


def test_fields_of_a_right_answer_are_those_of_the_views() -> None:
    assert set(views.ANYONE) == answers.PUBLIC
    assert {field for fields in views.ADDED.values() for field in fields} == answers.SWITCHED_ON
    assert set(views.HOLDER) == answers.PUBLIC | answers.FOR_THE_HOLDER
    assert set(views.STALE) == answers.MARKS


def test_holders_view_is_accepted_as_it_is_and_no_otherwise() -> None:
    right = views.just_received({"code": CODE, "due_at": None, "receipt": {"received_at": None, "submitted_at": None}})
    assert answers.view(right, CODE, KNOWN, holder=True) == Shown(CODE, 1, "received", False)
    step, late = right["timeline"][0], right["timeline"][0] | {"status": "processing", "late": True}
    told_late = right | {"timeline": [step, late], "completion": 0.5}
    assert answers.view(told_late, CODE, KNOWN, holder=True) == Shown(CODE, 1, "received", False)
    pause = {"status": "suspended", "until": None}
    step_back = {"completion": 0.5}  # as if it had been processed already
    for wrong, name in (
        (right | step_back, "not the timeline's"),
        (right | {"officer": "Cán bộ Mẫu"}, "not for this visitor"),
        (right | {"timeline": [step | {"officer": "Cán bộ Mẫu"}]}, "other fields"),
        (right | {"timeline": [step, late | {"late": False}], "completion": 0.5}, "another status"),
        (right | {"outcome": "refused"}, "work that is not done"),
        (right | {"reason": "Lý do mẫu"}, "nothing to give one for"),
        (right | {"pauses": [pause]}, "beyond its status"),
        (views.only(views.ANYONE, right), "fields are missing"),
    ):
        with pytest.raises(Wrong, match=name):
            answers.view(wrong, CODE, KNOWN, holder=True)


def test_degree_of_completion_is_what_a_dossier_has_come_to() -> None:
    """By what the service publishes of statuses, and the steps that were gone; the service's own rule says the same."""
    ways: list[tuple[DossierStatus, ...]] = [(DossierStatus.SUBMITTED,), (DossierStatus.RECEIVED,)]
    met: dict[str, set[float]] = {}
    for _ in range(5):
        for way in ways:
            passed = [each.slug for each in way]
            right = completion(way[-1], DossierStatus.RECEIVED in way, passed)
            assert answers.completion(KNOWN, passed) == right, way
            met.setdefault(way[-1].slug, set()).add(right)
        ways = [(*way, to) for way in ways for to in DossierStatus if way[-1].may_become(to)]
    assert {status: answers.completions(KNOWN, status) for status in KNOWN} == met


@pytest.mark.parametrize(
    ("content", "headers", "name"),
    [
        (record(code="G99.01.02-261008-0976"), FRESH, "another dossier"),
        (record(stale=True), UNSTORED, "stale without as_of"),
        (record(as_of="2026-10-08T09:00:00+07:00"), FRESH, "stale without as_of"),
        (record(stale=True, as_of="2026-10-08T09:00:00+07:00"), FRESH, "stale answer that may be stored"),
        (record(), FRESH | {"age": "61"}, "older than the soft age"),
        (record(), UNSTORED | {"age": "0"}, "cannot be asked for again"),
        (record(status="lost"), FRESH, "not published"),
        (record(completion=0.9), FRESH, "not those of the status"),
        (record(timeline=[]), FRESH, "not for this visitor"),
        (record(applicant={"name": "Nguyễn Văn Mẫu"}), FRESH, "not for this visitor"),
        (record(anything_new=1), FRESH, "not for this visitor"),
        ({"code": CODE}, FRESH, "fields are missing"),
        (record(), FRESH | {"content-type": "text/html"}, "not JSON"),
    ],
)
def test_wrong_record_is_noticed(content: dict[str, Any], headers: dict[str, str], name: str) -> None:
    with pytest.raises(Wrong, match=name):
        answers.record(answer(content, headers), CODE, STATUSES)


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (0, {}, Unavailable),
        (429, {}, Limited),
        (503, {"retry-after": "1"}, Unavailable),
        (503, {}, Wrong),
        (500, {}, Wrong),
        (404, {}, Wrong),
    ],
)
def test_answer_of_another_status_is_no_good_one(status: int, headers: dict[str, str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        answers.record(Answer(status, headers), CODE, STATUSES)


def test_503_says_which_it_was() -> None:
    headers = {"content-type": "application/problem+json", "cache-control": "no-store", "retry-after": "1"}
    with pytest.raises(Unavailable, match=r"^answered 503 \(overloaded\)$"):
        answer({"status": 503, "code": "overloaded"}, headers, 503).expect(200)
    with pytest.raises(Unavailable, match=r"^answered 503$"):
        Answer(503, {"content-type": "text/html", "retry-after": "1"}, b"<html>").expect(200)


def test_new_dossier_may_be_not_found_for_a_moment_and_only_in_those_words() -> None:
    headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
    none = {"status": 404, "code": "dossier_not_found"}
    assert answers.new(answer(none, headers, 404), CODE, STATUSES) is None
    shown = answers.new(answer(record()), CODE, STATUSES)
    assert shown is not None
    assert shown.version == 2
    for wrong in (
        answer(none, headers | {"cache-control": "public"}, 404),
        answer(none | {"code": "dossier_or_key_not_found"}, headers, 404),
        answer(record(), FRESH, 404),
    ):
        with pytest.raises(Wrong):
            answers.new(wrong, CODE, STATUSES)


def test_version_that_goes_backwards_is_noticed_unless_marked_stale() -> None:
    seen = ShownVersions()
    seen.note(Shown(CODE, 3, "processing", stale=False))
    seen.note(Shown(CODE, 2, "processing", stale=True))
    with pytest.raises(Wrong, match="backwards"):
        seen.note(Shown(CODE, 2, "processing", stale=False))


def test_visitor_remembers_no_more_than_there_is_room_for() -> None:
    seen = ShownVersions(room=2)
    for code in ("a", "b", "c"):
        seen.note(Shown(code, 5, "processing", stale=False))
    seen.note(Shown("a", 1, "processing", stale=False))
    with pytest.raises(Wrong, match="backwards"):
        seen.note(Shown("c", 1, "processing", stale=False))


@pytest.mark.parametrize(
    "again",
    [
        Answer(304, {"etag": '"3-json-1"'}),
        Answer(304, {"etag": '"2-json-1"'}, b"{}"),
        answer(record()),
    ],
    ids=["another ETag", "a body", "in full, unchanged"],
)
def test_wrong_answer_to_a_condition_is_noticed(again: Answer) -> None:
    before = Shown(CODE, 2, "processing", False, '"2-json-1"')
    assert answers.asked_again(Answer(304, {"etag": '"2-json-1"'}), before, STATUSES) == before
    with pytest.raises(Wrong):
        answers.asked_again(again, before, STATUSES)


def test_batch_is_checked_item_by_item_and_in_order() -> None:
    asked = [Asked(CODE.lower(), CODE), Asked("Z99.99.99-261008-0001", None)]
    right = [
        {"code": CODE.lower(), "dossier": record()},
        {"code": "Z99.99.99-261008-0001", "error": "dossier_not_found"},
    ]
    assert answers.batch(answer({"results": right}), asked, STATUSES) == [Shown(CODE, 2, "processing", False)]
    found = [right[0], {"code": "Z99.99.99-261008-0001", "dossier": record()}]
    lost = [{"code": CODE.lower(), "error": "dossier_not_found"}, right[1]]
    for results in (right[::-1], right[:1], found, lost):
        with pytest.raises(Wrong):
            answers.batch(answer({"results": results}), asked, STATUSES)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("status_unavailable", Unavailable),
        ("overloaded", Unavailable),
        ("too_many_requests", Limited),
        ("dossier_not_found", Wrong),
        ("dossier_or_key_not_found", Wrong),
    ],
)
def test_item_without_an_answer_is_told_from_one_with_a_wrong_one(error: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        answers.batch(answer({"results": [{"code": CODE, "error": error}]}), [Asked(CODE, CODE)], STATUSES)


def test_refusal_for_another_reason_is_noticed() -> None:
    headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
    content = {"code": "malformed_code", "status": 400}
    assert answers.problem(answer(content, headers, 400), 400, "malformed_code") == content
    with pytest.raises(Wrong, match="another reason"):
        answers.problem(answer(content, headers, 400), 400, "malformed_key")


def test_repeat_must_be_the_first_answer_to_the_letter() -> None:
    with pytest.raises(Wrong, match="repeat"):
        answers.repeated(answer(record(), status=201), 201, record(version=3))


def test_change_must_make_the_next_version() -> None:
    with pytest.raises(Wrong, match="another version"):
        answers.changed(answer({"version": 4}), CODE, 3)


SLIP = {"number": CODE, "received_at": "2026-10-08T09:00:00+07:00", "due_at": None, "link": f"/{CODE}?key=KEY"}
TAKEN_IN = {"code": CODE, "lookup_key": "KEY", "status": "received", "due_at": None, "version": 1, "receipt": SLIP}
ONLINE = views.only(("code", "lookup_key", "due_at", "version"), TAKEN_IN) | {
    "status": "submitted",
    "confirmation": SLIP | {"received_at": None},
}
MOVED = {"code": CODE, "version": 2, "status": "received", "due_at": None}


def test_acceptance_comes_with_a_receipt_and_an_online_application_with_a_confirmation() -> None:
    assert Dossier.taken_in(answers.receipt(answer(TAKEN_IN, status=201))).accepted
    assert not Dossier.taken_in(answers.receipt(answer(ONLINE, status=201))).accepted
    assert answers.changed(answer(MOVED), CODE, 2) == MOVED
    assert answers.changed(answer(MOVED | {"receipt": SLIP}), CODE, 2, accepts=True)["receipt"] == SLIP


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (TAKEN_IN | {"status": "submitted"}, "another paper"),
        (ONLINE | {"status": "received"}, "another paper"),
        (ONLINE | {"receipt": SLIP}, "another paper"),
        (ONLINE | {"confirmation": SLIP}, "contradicts itself"),
        (TAKEN_IN | {"due_at": "2026-12-08T09:00:00+07:00"}, "contradicts itself"),
        (TAKEN_IN | {"receipt": SLIP | {"number": "G99.01.02-261008-0976"}}, "contradicts itself"),
        (TAKEN_IN | {"lookup_key": "OTHER"}, "does not carry its key"),
        (TAKEN_IN | {"version": 2}, "another version"),
    ],
)
def test_wrong_receipt_is_noticed(content: dict[str, Any], name: str) -> None:
    with pytest.raises(Wrong, match=name):
        answers.receipt(answer(content, status=201))


def test_move_that_accepts_must_bring_the_receipt_and_no_other_may() -> None:
    for content, accepts in ((MOVED, True), (MOVED | {"receipt": SLIP}, False)):
        with pytest.raises(Wrong, match="another paper"):
            answers.changed(answer(content), CODE, 2, accepts=accepts)


def test_refused_change_must_name_the_status_the_dossier_is_in() -> None:
    headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
    refusal = {"code": "move_not_allowed", "status": 409, "current": "processing", "allowed": ["completed"]}
    assert answers.move_refused(answer(refusal, headers, 409), {"completed"}, "processing") == refusal
    with pytest.raises(Wrong, match="another status than the dossier's"):
        answers.move_refused(answer(refusal, headers, 409), {"completed"}, "received")


def test_lookup_key_told_once_more_must_be_that_of_the_receipt() -> None:
    told = {"code": CODE, "version": 2, "lookup_key": "KEY", "link": f"/{CODE}?key=KEY"}
    assert answers.key_again(answer(told), CODE, "KEY") == told
    for wrong in ({"lookup_key": "OTHER"}, {"link": "/?key=OTHER"}, {"code": "G99.01.02-261008-0976"}):
        with pytest.raises(Wrong, match="another lookup key"):
            answers.key_again(answer(told | wrong), CODE, "KEY")


def synced(*lines: dict[str, Any], complete: bool = True) -> Answer:
    """An answer to a synchronisation."""
    told = [*lines, {"summary": {}, "complete": complete}]
    return Answer(
        200, {"content-type": "application/x-ndjson"}, b"".join(json.dumps(each).encode() + b"\n" for each in told)
    )


CREATED, APPLIED = {"id": "a", "result": "created", "version": 1}, {"id": "b", "result": "applied", "version": 4}
DUE = {"a": 1, "b": 4}


def test_synchronisation_answers_each_line_in_order_with_the_version_it_makes() -> None:
    assert answers.synced(synced(CREATED, APPLIED), DUE) == {"a": CREATED, "b": APPLIED}
    twice = [{**line, "result": "duplicate"} for line in (CREATED, APPLIED)]
    assert answers.synced(synced(*twice), DUE, again=True).keys() == {"a", "b"}
    with pytest.raises(Unavailable, match="not worked on to its end"):
        answers.synced(synced(CREATED, {"id": "b", "result": "not_done"}, complete=False), DUE)


@pytest.mark.parametrize(
    ("lines", "again", "name"),
    [
        ([CREATED], False, "otherwise than is due"),
        ([APPLIED, CREATED], False, "otherwise than is due"),
        ([CREATED, APPLIED | {"version": 5}], False, "otherwise than is due"),
        ([CREATED, {"id": "b", "result": "rejected", "code": "bad_date"}], False, "otherwise than is due"),
        ([CREATED, APPLIED | {"result": "duplicate"}], False, "called a duplicate"),
        ([CREATED, APPLIED], True, "recorded twice"),
    ],
)
def test_line_that_is_lost_doubled_or_refused_is_noticed(lines: list[dict[str, Any]], again: bool, name: str) -> None:
    with pytest.raises(Wrong, match=name):
        answers.synced(synced(*lines), DUE, again=again)


def test_page_of_the_feed_is_in_order_and_says_no_more_than_it_may() -> None:
    def event(sequence: str, **more: Any) -> dict[str, Any]:
        return {**dict.fromkeys(answers.EVENT), "sequence": sequence, "data": dict.fromkeys(answers.EVENT_DATA) | more}

    first, second = event("1"), event("2")
    page = {"events": [first, second], "next": "c1_a", "caught_up": True}
    assert answers.changes(answer(page)) == page
    for events in ([second, first], [first, first]):
        with pytest.raises(Wrong, match="not in the log's order"):
            answers.changes(answer(page | {"events": events}))
    with pytest.raises(Wrong, match="other fields"):
        answers.changes(answer(page | {"events": [event("1", officer="Lê Thị Ví Dụ")]}))


# -- codes ------------------------------------------------------------------------------------------------------------


def test_every_spelling_is_one_of_the_same_code() -> None:
    for code in (CODE, "000.00.01.G22-200316-0001", "01234/2026/99901"):
        assert {codes.parse(spelled(code)).text for _ in range(200)} == {code}


def test_invented_codes_are_what_they_are_said_to_be() -> None:
    assert codes.parse(unknown()).agency == "Z99.99.99"
    assert codes.parse(new_number()).scheme is codes.Scheme.D
    for typed in MISTYPED:
        with pytest.raises(codes.MalformedCode):
            codes.parse(typed)


def test_shelf_keeps_the_newest_and_offers_all_it_has() -> None:
    shelf = Shelf((Dossier(str(number), "", "received") for number in range(5)), room=3)
    assert len(shelf) == 3
    assert {shelf.pick().code for _ in range(500)} == {"2", "3", "4"}


def test_recent_dossiers_are_hot_and_old_ones_have_a_long_tail() -> None:
    """Zipf-like with an exponent of two thirds: the newest k of n get the cube root of k/n of all questions."""
    random.seed(24)
    shelf = Shelf(Dossier(str(number), "", "received") for number in range(1000))
    picked = [int(shelf.pick().code) for _ in range(20_000)]
    for newest in (1, 8, 125, 512):
        part = sum(number >= 1000 - newest for number in picked) / len(picked)
        assert part == pytest.approx((newest / 1000) ** (1 / 3), abs=0.02)
    assert min(picked) < 10


# -- when they come, from where, and how slowly ------------------------------------------------------------------------


def test_curve_is_a_share_of_the_most_and_reaches_it() -> None:
    for curve in (curves.steady, curves.ordinary_day, curves.results_day, curves.storm):
        shares = [curve(moment / 1000) for moment in range(1001)]
        assert (min(shares) > 0, max(shares)) == (True, 1), curve


def test_addresses_are_unassigned_and_tell_attackers_from_strangers() -> None:
    found = {addresses.citizen() for _ in range(2000)} | {addresses.portal() for _ in range(100)}
    aside = [ipaddress.ip_network(network) for network in ("198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")]
    assert all(any(ipaddress.ip_address(each) in network for network in aside) for each in found)
    assert addresses.SHARED_WITH_ATTACKERS not in found
    assert len(found) > 500
    proxies = Networks(stage.SETTINGS["HOSO24_TRUSTED_PROXIES"].split(","))
    assert not proxies.hold(ipaddress.ip_address(addresses.SHARED_WITH_ATTACKERS).packed)


@pytest.mark.parametrize(
    "line", [Line(piece=20, sending_pause=0.002), Line(take=512, reading_pause=0.002)], ids=["sender", "reader"]
)
async def test_slow_phone_gets_its_page(house: RunningHouse, line: Line) -> None:
    receipt = await house.receive()
    url = f"{house.lookup_url}/tra-cuu/{address(receipt['code'])}"
    reply = await asyncio.to_thread(slow_line.get, url, {addresses.HEADER: addresses.CARRIERS[1]}, line)
    assert pages.page(reply.answer, receipt["code"], "vi", KNOWN, gzip=False).status == "received"
    assert 0 < reply.seconds < slow_line.LONGEST


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"], ids=["nothing", "half"])
async def test_answer_that_does_not_come_whole_is_no_answer(sent: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Unavailable):
            await asyncio.to_thread(slow_line.get, url, {}, Line())


async def test_phone_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_line, "LONGEST", 0.1)
    came = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the phone hangs up
        came.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(Unavailable):
            await asyncio.to_thread(slow_line.get, url, {}, Line())
        async with asyncio.timeout(10):
            await came.wait()


# -- where the load goes ----------------------------------------------------------------------------------------------


def up_file(folder: Path, lookup: str, intake: str, token: str | None = None, samples: Sequence[object] = ()) -> str:
    path = folder / "up.json"
    path.write_text(json.dumps({"lookup": lookup, "intake": intake, "token": token or "none", "samples": samples}))
    return str(path)


def test_this_machine_may_be_put_under_load(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "127.8.8.8", "localhost", "[::1]"):
        up = up_file(tmp_path, f"http://{host}:8080/", f"http://{host}:8090")
        assert Target.from_environ({"HOSO24_LOAD_UP": up}).lookup == f"http://{host}:8080"


def test_another_machine_only_if_it_is_named(tmp_path: Path) -> None:
    for host in ("192.0.2.1", "lookup.example", "127.0.0.1.example", "128.0.0.1", "[2001:db8::1]"):
        up = up_file(tmp_path, "http://127.0.0.1:8080", f"http://{host}:8090")
        with pytest.raises(NoTarget, match="not this machine"):
            Target.from_environ({"HOSO24_LOAD_UP": up, "HOSO24_LOAD_HOSTS": "other.example"})
        named = f"other.example, {host.strip('[]')}"
        found = Target.from_environ({"HOSO24_LOAD_UP": up, "HOSO24_LOAD_HOSTS": named})
        assert found.intake == f"http://{host}:8090"


def test_file_of_another_shape_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"lookup": "http://127.0.0.1:8080"}')
    with pytest.raises(NoTarget, match="cannot be read"):
        Target.from_environ({"HOSO24_LOAD_UP": str(tmp_path / "up.json")})


def test_imported_dossiers_lie_below_the_samples(tmp_path: Path) -> None:
    keys = tmp_path / "sample.keys.ndjson"
    keys.write_text('{"code": "G99.01.02-261008-0001", "lookup_key": "0-KEY"}\n')
    up = up_file(
        tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:2", samples=[{"code": CODE, "key": "", "status": ""}]
    )
    house = Target.from_environ({"HOSO24_LOAD_UP": up, "HOSO24_LOAD_KEYS": str(keys)})
    assert house.samples == (Dossier("G99.01.02-261008-0001", "0-KEY", ""), Dossier(CODE, "", ""))
    keys.write_text('{"code": "G99.01.02-261008-0001"}\n')
    with pytest.raises(NoTarget, match="cannot be read"):
        Target.from_environ({"HOSO24_LOAD_UP": up, "HOSO24_LOAD_KEYS": str(keys)})


# -- a cold start -----------------------------------------------------------------------------------------------------

LOOKUP = """
import http.server

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", PORT), Ready).serve_forever()
"""


async def answering(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


@contextlib.asynccontextmanager
async def kept_up(port: int, *name: str) -> AsyncIterator[list[int]]:
    """Something that answers every GET, of this name, and is started again when it ends; the pids there were."""
    pids: list[int] = []

    async def keep_up() -> None:
        while True:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", LOOKUP.replace("PORT", str(port)), *name
            )
            pids.append(process.pid)
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    task = asyncio.create_task(keep_up())
    try:
        yield pids
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_cold_house_has_a_new_lookup_and_an_empty_redis(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.set("dossier", "a copy")
        port = free_port(12_000 + os.getpid() % 3000 * 2)
        url = f"http://127.0.0.1:{port}"
        async with kept_up(port, "hoso24", "lookup") as pids:
            await until(lambda: answering(url), within=60)
            await asyncio.to_thread(make_cold, Target(url, url, "", (), url, redis_url), {})
            assert len(pids) == 2
        assert await redis.dbsize() == 0


async def test_nothing_but_a_lookup_of_ours_is_ended(redis_url: str) -> None:
    port = free_port(12_000 + os.getpid() % 3000 * 2)
    url = f"http://127.0.0.1:{port}"
    async with kept_up(port, "another", "program") as pids:
        await until(lambda: answering(url), within=60)
        with pytest.raises(NoTarget, match="No lookup of this machine"):
            await asyncio.to_thread(make_cold, Target(url, url, "", (), url, redis_url), {})
        assert len(pids) == 1
        assert await answering(url)


@pytest.mark.parametrize(
    ("redis", "problem"), [(None, "needs a service of `make up`"), ("redis://192.0.2.1:6379/0", "not this machine")]
)
def test_another_house_is_not_made_cold(redis: str | None, problem: str) -> None:
    house = Target("http://127.0.0.1:1", "http://127.0.0.1:1", "", (), "http://127.0.0.1:1", redis)
    with pytest.raises(NoTarget, match=problem):
        make_cold(house, {})


# -- a real run -------------------------------------------------------------------------------------------------------


async def locust(
    *arguments: str, until_true: Callable[[], Awaitable[Any]] | None = None, **environ: str
) -> tuple[int | None, str]:
    """Locust in a process of its own, told to stop as soon as this is true; its exit status and all it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "HOSO24_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "--headless", "-f", "loadtests/locustfile.py", *arguments),
        cwd=ROOT,
        env=inherited | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    ending = asyncio.create_task(process.communicate())
    try:
        if until_true is not None:
            await until(until_true, within=120)
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(120):
            output, _ = await ending
    finally:
        ending.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


@pytest.mark.usefixtures("nothing_is_shed")
async def test_short_run_on_a_running_house_is_within_budget(house: RunningHouse, tmp_path: Path) -> None:
    samples = [
        {"code": receipt["code"], "key": receipt["lookup_key"], "status": receipt["status"]}
        for receipt in [await house.receive() for _ in range(3)]
    ]
    (tmp_path / "budget.toml").write_text(PATIENT)
    status, output = await locust(
        *("--users", "8", "--run-time", "5s", "--html", str(tmp_path / "report.html")),
        HOSO24_LOAD_UP=up_file(tmp_path, house.lookup_url, house.intake_url, house.token, samples),
        HOSO24_LOAD_BUDGET=str(tmp_path / "budget.toml"),
        HOSO24_LOAD_DOSSIERS="10",
    )
    assert status == 0, output
    assert re.findall(r"^(\w+) .* pass$", output, re.MULTILINE) == [
        "availability",
        "latency",
        "freshness",
        "intake",
        "errors",
        "run",
    ]
    assert output.endswith("Within budget.\n")


@pytest.mark.usefixtures("nothing_is_shed")
@pytest.mark.parametrize("profile", ["portal", "business-system"])
async def test_partners_are_answered_and_told_on_a_running_house(
    house: RunningHouse, tmp_path: Path, profile: str
) -> None:
    (tmp_path / "budget.toml").write_text(PATIENT)
    _, output = await locust(
        *("--profile", profile, "--users", "12", "--run-time", "8s", "--html", str(tmp_path / "report.html")),
        HOSO24_LOAD_UP=up_file(tmp_path, house.lookup_url, house.intake_url, house.token),
        HOSO24_LOAD_BUDGET=str(tmp_path / "budget.toml"),
        HOSO24_LOAD_DOSSIERS="10",
    )
    assert "intake /api/v1/changes" in output
    assert ("intake /api/v1/sync" in output) is (profile == "business-system")
    kept = dict(re.findall(r"^(\w+) .* (pass|FAIL)$", output, re.MULTILINE))
    assert kept.pop("told") in {"pass", "FAIL"}, "by the clock, which a busy machine may miss"
    assert set(kept.values()) == {"pass"}, output


@pytest.mark.usefixtures("nothing_is_shed")
async def test_master_prepares_and_judges_what_its_workers_do_on_results_day(
    house: RunningHouse, writer: Any, tmp_path: Path
) -> None:
    async def announced() -> bool:
        completed = DossierStatus.COMPLETED.value
        return bool(await writer.fetchval("SELECT count(*) >= 12 FROM dossier WHERE status = $1", completed))

    (tmp_path / "budget.toml").write_text(PATIENT)
    report, port = tmp_path / "report.html", str(free_port(12_000 + os.getpid() % 3000 * 2))
    environ: dict[str, Any] = {
        "HOSO24_LOAD_UP": up_file(tmp_path, house.lookup_url, house.intake_url, house.token),
        "HOSO24_LOAD_BUDGET": str(tmp_path / "budget.toml"),
        "HOSO24_LOAD_DOSSIERS": "12",
    }
    worker = ("--worker", "--master-port", port)
    master = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2")
    run = (
        "--profile",
        "results-day",
        "--users",
        "20",
        "--run-time",
        "40s",
        "--stop-timeout",
        "5",
        "--html",
        str(report),
    )
    (status, output), *workers = await asyncio.gather(
        locust(*master, *run, "--stop-timeout", "5", until_true=announced, **environ),
        locust(*worker, **environ),
        locust(*worker, **environ),
    )
    assert status == 1, output
    assert [status for status, _ in workers] == [0, 0], workers
    # All there is to keep was kept, by what both workers did; only that there was no more to wait for than this.
    assert re.findall(r"^(\w+) .* (?:pass|FAIL)$", output, re.MULTILINE)[-6:] == [*kept(Counts()), "run"]
    assert re.findall(r"^(\w+) .* FAIL$", output, re.MULTILINE) == ["run"]
    assert "; 0 workers lost" in output
    assert output.endswith(report.with_suffix(".txt").read_text("utf-8"))
    assert "<html" in report.read_text("utf-8")


async def test_run_that_is_cut_short_has_kept_nothing(house: RunningHouse, writer: Any, tmp_path: Path) -> None:
    async def taken_in() -> bool:
        return bool(await writer.fetchval("SELECT count(*) >= 3 FROM dossier"))

    (tmp_path / "budget.toml").write_text(PATIENT)
    status, output = await locust(
        *("--users", "4", "--run-time", "10m", "--stop-timeout", "1", "--html", str(tmp_path / "report.html")),
        HOSO24_LOAD_UP=up_file(tmp_path, house.lookup_url, house.intake_url, house.token),
        HOSO24_LOAD_BUDGET=str(tmp_path / "budget.toml"),
        HOSO24_LOAD_DOSSIERS="1",
        until_true=taken_in,
    )
    assert status == 1, output
    assert re.search(r"^run +\d+ of 600 s; 0 workers lost +all of it +FAIL$", output, re.MULTILINE), output


async def test_run_that_is_answered_wrongly_fails(house: RunningHouse, tmp_path: Path) -> None:
    lost = {"code": unknown(), "key": "", "status": "received"}  # said to be there, and not found
    (tmp_path / "budget.toml").write_text(PATIENT)
    status, output = await locust(
        *("Portal", "--users", "12", "--run-time", "3s"),  # each does something within its first second
        *("--html", str(tmp_path / "report.html")),
        HOSO24_LOAD_UP=up_file(tmp_path, house.lookup_url, house.intake_url, house.token, [lost]),
        HOSO24_LOAD_BUDGET=str(tmp_path / "budget.toml"),
        HOSO24_LOAD_DOSSIERS="0",
    )
    assert status == 1, output
    assert "wrong: " in output
    assert re.search(r"^errors .* FAIL$", output, re.MULTILINE), output
    assert output.endswith("Not within budget.\n")


@pytest.mark.servers
async def test_without_a_house_one_sentence_says_what_to_run(tmp_path: Path) -> None:
    status, output = await locust(HOSO24_LOAD_UP=str(tmp_path / "up.json"))
    assert status == 2
    assert output.splitlines()[-1] == f"There is no {tmp_path}/up.json: run `make up` in another terminal first."


def test_locust_is_not_imported_into_the_tests() -> None:
    assert not {"locust", "gevent"} & sys.modules.keys()


# -- what the load may know of the inside -----------------------------------------------------------------------------

INSIDE = {"asyncpg", "redis", "psutil", "ops"}
NAMES_A_MODULE = re.compile(r"^\s*(?:from|import) ((?:lookup|intake)\.[\w.]+)", re.MULTILINE)


def of_locust() -> set[Path]:
    """The files that Locust loads: locustfile.py and what that imports of loadtests, and so on."""
    found, waiting = set(), [ROOT / "loadtests" / "locustfile.py"]
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            waiting += [ROOT / f"{name.replace('.', '/')}.py" for _, name in imported(path)]
    return {path for path in found if "loadtests" in path.parts}


def test_locust_users_know_urls_and_nothing_of_the_inside_but_for_a_cold_start() -> None:
    files = of_locust()
    assert len(files) > 10
    inside = {path.name for path in files for _, name in imported(path) if name.partition(".")[0] in INSIDE}
    assert inside == {"cold.py"}


def test_one_string_of_the_load_names_a_module_of_the_service_and_that_is_there() -> None:
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in sources("loadtests")
        for name in NAMES_A_MODULE.findall(path.read_text("utf-8"))
    }
    assert named == {("loadtests/bench/servers.py", "lookup.web.tally")}


@pytest.mark.servers
async def test_lookup_without_counting_is_the_command_with_its_counting_cut_out() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", UNCOUNTED, "--help"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert b"Usage:" in said
