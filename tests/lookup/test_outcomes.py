"""Each lookup is counted once, under where its answer came from and what it was, whichever way it took."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from lookup.cache import dossier_key
from lookup.code import DossierCode, parse
from lookup.lookup_key import KeyRing
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Rate
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import CITIZEN, Alone, Answer, lookup_alone

KNOWN, UNKNOWN = parse("G99.01.01-261120-0001"), parse("G99.01.01-261120-0002")
NUMBER = parse("00077/2026/99901")
KEYS = KeyRing.from_text(KEY_SECRETS)
WAYS: dict[str, "Way"] = {}
Way = Callable[[Alone, str], Awaitable[Answer]]


def way(ask: Way) -> Way:
    WAYS[ask.__name__.replace("_", " ")] = ask
    return ask


@way
async def the_early_way(alone: Alone, path: str) -> Answer:
    answer = await alone.ask(f"/api/v1/dossiers/{path}")
    assert answer.early
    return answer


@way
async def the_normal_way(alone: Alone, path: str) -> Answer:
    answer = await alone.ask(f"/api/v1/dossiers/{path}", held='"one", "another"')
    assert not answer.early
    return answer


@way
async def the_page(alone: Alone, path: str) -> Answer:
    return await alone.ask(f"/tra-cuu/{path}")


@way
async def a_batch(alone: Alone, path: str) -> Answer:
    body = json.dumps({"dossiers": [{"code": path}]})
    return await alone.ask("/api/v1/lookups", "POST", data=body)


ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


async def counted(alone: Alone, answer: Awaitable[Answer]) -> Counter[tuple[str, str]]:
    """What is counted while this is answered."""
    before = alone.lookups()
    await answer
    return alone.lookups() - before


@ways
async def test_found_is_counted_by_where_it_was_found(way: Way) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for source in ("postgres", "memory", "redis"):
            if source == "redis":
                alone.memory.drop(KNOWN.text)
            assert await counted(alone, way(alone, KNOWN.path)) == {(source, "found"): 1}


@ways
@pytest.mark.parametrize("code", [KNOWN, NUMBER], ids=["code", "official number"])
async def test_stale_answer_is_counted_as_one(way: Way, code: DossierCode) -> None:
    async with lookup_alone(soft_age=1.0) as alone:
        alone.put(KNOWN.text)
        alone.store.numbers_of[NUMBER.text] = KNOWN.text
        assert await counted(alone, way(alone, code.path)) == {("postgres", "found"): 1}
        alone.store.away = True
        alone.clock.at += 2 * SECOND
        assert await counted(alone, way(alone, code.path)) == {("redis", "stale"): 1}
        alone.redis.evict(dossier_key(1, KNOWN.text))
        assert await counted(alone, way(alone, code.path)) == {("memory", "stale"): 1}


@ways
async def test_missing_and_unavailable_are_told_apart(way: Way) -> None:
    async with lookup_alone() as alone:
        assert await counted(alone, way(alone, UNKNOWN.path)) == {("postgres", "missing"): 1}
        alone.clock.at += 6 * SECOND
        alone.store.away = True
        assert await counted(alone, way(alone, UNKNOWN.path)) == {("nowhere", "unavailable"): 1}


@ways
async def test_each_lookup_is_charged_by_what_it_costs(way: Way) -> None:
    """A dossier is charged when its asker is shown it for the first time, wherever it comes from; a miss as a miss."""
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for path, rates in ((KNOWN.path, [None]), (KNOWN.path, []), (UNKNOWN.path, [Rate.MISSING])):
            alone.charges.charged.clear()
            await way(alone, path)
            assert [rate for _, rate in alone.charges.charged] == rates
            assert None not in dict(alone.charges.charged)


async def test_question_to_the_primary_is_charged_only_when_it_is_asked_for_a_version() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(f"/api/v1/dossiers/{KNOWN.path}?at_least=1")
        alone.charges.charged.clear()
        alone.put(KNOWN.text, version=2)
        assert (await alone.ask(f"/api/v1/dossiers/{KNOWN.path}?at_least=2")).status == 200
        assert [rate for _, rate in alone.charges.charged] == [Rate.PRIMARY]
        alone.charges.charged.clear()
        await alone.ask(f"/api/v1/dossiers/{KNOWN.path}", held='"one", "another"')
        assert alone.charges.charged == []


async def test_partner_s_answer_out_of_nowhere_is_counted_and_not_charged() -> None:
    async with lookup_alone(partners=(f"{CITIZEN}/32",)) as alone:
        for door in WAYS.values():
            alone.clock.at += 6 * SECOND
            assert await counted(alone, door(alone, UNKNOWN.path)) == {("postgres", "missing"): 1}
        assert {client for client, _ in alone.charges.charged} == {None}


async def test_version_there_is_is_told_when_a_later_one_was_wanted_and_no_other_time() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(f"/api/v1/dossiers/{KNOWN.path}")
        alone.store.away = True
        answers = [
            await alone.ask(f"/api/v1/dossiers/{path}")
            for path in (f"{KNOWN.path}?at_least=2", f"{UNKNOWN.path}?at_least=2", UNKNOWN.path)
        ]
        assert [answer.status for answer in answers] == [503, 503, 503]
        assert [json.loads(answer.body).get("version") for answer in answers] == [1, None, None]
        alone.store.away = False
        answer = await alone.ask(f"/api/v1/dossiers/{KNOWN.path}?at_least=2")
        assert (answer.status, json.loads(answer.body)["version"]) == (412, 1)
        assert (await alone.ask(f"/api/v1/dossiers/{UNKNOWN.path}?at_least=2")).status == 404


async def test_versions_beyond_the_last_are_charged_to_the_rate_for_primaries_and_are_no_failure() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.ask(f"/api/v1/dossiers/{KNOWN.path}")
        before = alone.lookups()
        statuses = [(await alone.ask(f"/api/v1/dossiers/{KNOWN.path}?at_least=999")).status for _ in range(60)]
        assert statuses == [412] * 50 + [429] * 10
        assert alone.lookups() - before == {("postgres", "not_reached"): 50, ("nowhere", "limited"): 10}


@pytest.mark.parametrize("version", ["0", "2147483648", "00000000001", "-1", "1.0", "x", "", "²", " 1"])
async def test_version_that_no_dossier_can_have_is_malformed(version: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        answer = await alone.ask(f"/api/v1/dossiers/{KNOWN.path}?at_least={version.replace(' ', '%20')}")
        assert answer.status == 400


@pytest.mark.parametrize(("version", "status"), [("1", 200), ("0000000001", 200), ("2147483647", 412)])
async def test_version_that_a_dossier_can_have_is_looked_for(version: str, status: int) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        assert (await alone.ask(f"/api/v1/dossiers/{KNOWN.path}?at_least={version}")).status == status
