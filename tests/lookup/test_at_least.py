"""`?at_least=N` never answers with less: by every kind of code, wherever the copy is, and for batches' items alike."""

import json

import pytest

from lookup import code as codes
from tests.lookup.alone import Alone, lookup_alone

CODE, NUMBERED, NUMBER = "G99.01.01-261120-0001", "01234/2026/99901", "00077/2026/99901"
UNKNOWN = "G99.01.01-261120-0009"
BY = {"a code": CODE, "a code of scheme D": NUMBERED, "an official number": NUMBER}


def put(alone: Alone, version: int) -> None:
    for code in (CODE, NUMBERED):
        alone.put(code, version=version)
    alone.store.numbers_of[NUMBER] = CODE


async def ask(alone: Alone, code: str, at_least: int) -> tuple[int, int | None]:
    """The status, and the version that the answer tells."""
    answer = await alone.ask(f"/api/v1/dossiers/{codes.parse(code).path}?at_least={at_least}")
    return answer.status, json.loads(answer.body).get("version")


@pytest.mark.parametrize("code", BY.values(), ids=BY)
@pytest.mark.parametrize("warm", [True, False], ids=["in memory", "not in memory"])
async def test_version_there_is_is_shown_and_one_there_is_not_is_412(code: str, warm: bool) -> None:
    async with lookup_alone() as alone:
        put(alone, 2)
        if warm:
            await alone.ask(f"/api/v1/dossiers/{codes.parse(code).path}")
        assert await ask(alone, code, 1) == (200, 2)
        assert await ask(alone, code, 2) == (200, 2)
        assert await ask(alone, code, 3) == (412, 2)


@pytest.mark.parametrize("code", BY.values(), ids=BY)
async def test_copy_below_it_is_passed_over(code: str) -> None:
    async with lookup_alone() as alone:
        put(alone, 1)
        await alone.ask(f"/api/v1/dossiers/{codes.parse(code).path}")
        put(alone, 2)
        assert await ask(alone, code, 2) == (200, 2)


@pytest.mark.parametrize("code", [UNKNOWN, "01299/2026/99901"], ids=["a code", "a code of scheme D"])
async def test_code_there_is_not_is_404_at_any_version(code: str) -> None:
    async with lookup_alone() as alone:
        assert (await ask(alone, code, 1))[0] == 404


@pytest.mark.parametrize("code", BY.values(), ids=BY)
async def test_without_a_primary_it_is_503_and_never_an_older_version(code: str) -> None:
    async with lookup_alone() as alone:
        put(alone, 1)
        await alone.ask(f"/api/v1/dossiers/{codes.parse(code).path}")
        alone.store.away = True
        assert (await ask(alone, code, 2))[0] == 503
        assert await ask(alone, code, 1) == (200, 1)
