"""An entity tag is good for the bytes it was given with: not for another epoch, version or view, on any way."""

import pytest

from lookup import code as codes
from ops.observe import tracing
from tests.lookup.alone import Alone, Answer, lookup_alone

CODE = "G99.01.01-261120-0001"
NUMBERED = "01234/2026/99901"
NUMBER = "00077/2026/99901"
API, PAGE = "/api/v1/dossiers/", "/tra-cuu/"


async def out_of_memory(alone: Alone, held: str | None) -> Answer:
    await alone.ask(API + CODE)
    answer = await alone.ask(API + CODE, held=held)
    assert answer.early
    assert alone.store.asked.count(CODE) <= 2  # once in each epoch
    return answer


async def when_it_has_arrived(alone: Alone, held: str | None) -> Answer:
    alone.memory.drop(CODE)
    answer = await alone.ask(API + CODE, held=held)
    assert answer.early
    return answer


async def drawn_for_a_trace(alone: Alone, held: str | None) -> Answer:
    await alone.ask(API + CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "draw", lambda _: True)
        answer = await alone.ask(API + CODE, held=held)
    assert not answer.early
    return answer


async def the_normal_way(alone: Alone, held: str | None) -> Answer:
    answer = await alone.ask(API + CODE, held=held and f'"another", W/{held}')
    assert answer.early == (held is None)
    return answer


async def in_scheme_d(alone: Alone, held: str | None) -> Answer:
    return await alone.ask(API + codes.parse(NUMBERED).path, held=held)


async def by_official_number(alone: Alone, held: str | None) -> Answer:
    return await alone.ask(API + codes.parse(NUMBER).path, held=held)


async def by_official_number_the_normal_way(alone: Alone, held: str | None) -> Answer:
    answer = await alone.ask(API + codes.parse(NUMBER).path, held=held and f'{held}, "another"')
    assert answer.early == (held is None)
    return answer


WAYS = [
    out_of_memory,
    when_it_has_arrived,
    drawn_for_a_trace,
    the_normal_way,
    in_scheme_d,
    by_official_number,
    by_official_number_the_normal_way,
]
ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def put(alone: Alone, version: int, status: int) -> None:
    for code in (CODE, NUMBERED):
        alone.put(code, version=version, status=status)
    alone.store.numbers_of[NUMBER] = CODE


async def given(way: object, alone: Alone) -> str:
    """The tag of the answer there is now, which is good for that answer."""
    answer = await way(alone, None)  # type: ignore[operator]
    assert answer.status == 200
    assert answer.tag is not None
    repeated = await way(alone, answer.tag)  # type: ignore[operator]
    assert (repeated.status, repeated.body, repeated.tag) == (304, b"", answer.tag)
    return str(answer.tag)


@ways
async def test_tag_of_an_older_epoch_never_gets_a_304(way: object) -> None:
    """After a restore the same version number may mean something else."""
    async with lookup_alone() as alone:
        put(alone, version=2, status=9)
        old = await given(way, alone)
        put(alone, version=2, status=4)
        alone.begin_epoch(2)
        answer = await way(alone, old)  # type: ignore[operator]
        assert answer.status == 200
        assert b'"status":"processing"' in answer.body
        assert answer.tag not in (None, old)
        assert await given(way, alone) == answer.tag


@ways
async def test_tag_of_an_older_version_never_gets_a_304(way: object) -> None:
    async with lookup_alone() as alone:
        put(alone, version=2, status=4)
        old = await given(way, alone)
        for code in (CODE, NUMBERED):
            alone.deliver(code, version=3, status=9)
        answer = await way(alone, old)  # type: ignore[operator]
        assert answer.status == 200
        assert b'"status":"completed"' in answer.body


@ways
async def test_tag_of_another_view_never_gets_a_304(way: object) -> None:
    """An installation that shows more, or shows the same under other names, sends other bytes."""
    tags = []
    for shown in ((), ("dates",), ("agency",)):
        async with lookup_alone(anonymous_shows=shown) as alone:
            put(alone, version=2, status=4)
            tags.append(await given(way, alone))
            for other in tags[:-1]:
                assert (await way(alone, other)).status == 200  # type: ignore[operator]


@pytest.mark.parametrize("path", [PAGE + CODE, "/en/status/" + CODE, PAGE + "01234-2026-99901"])
async def test_page_is_never_not_modified_for_a_tag_of_an_older_epoch(path: str) -> None:
    async with lookup_alone() as alone:
        put(alone, version=2, status=9)
        before = await alone.ask(path)
        tags = [tag for tag in (before.tag, await given(out_of_memory, alone)) if tag is not None]
        put(alone, version=2, status=4)
        alone.begin_epoch(2)
        for tag in tags:
            answer = await alone.ask(path, held=tag)
            assert answer.status == 200
            assert answer.body
