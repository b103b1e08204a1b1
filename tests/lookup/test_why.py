"""One screen that says why a lookup answers what it answers."""

import contextlib
import dataclasses
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from rich.console import Console

from lookup.codes_in_logs import pseudonym
from lookup.upkeep import why
from ops.http.server import Server
from ops.observe.redaction import hashed_by
from ops.settings import Secret
from tests.conftest import Database
from tests.house import (
    House,
    intake_at,
    intake_settings,
    lookup_running,
    lookup_settings,
    new_token,
    relay_of,
    until,
)

UNKNOWN = "G99.12.01-260101-9999"
LEANS_WITHIN = 90.0
"""Seconds: a copy read before the feed had caught up ages by itself, and is read again after a minute."""


class Screen:
    """A lookup with all that belongs to it, and what `why` prints about it."""

    def __init__(self, house: House, lookup: Server, settings: Any) -> None:
        self.house = house
        self.settings = settings
        self.admin = f"http://127.0.0.1:{lookup.admin_port}"
        self.known = True

    async def of(self, code: str, *, admin: str | None = None) -> str:
        screen = io.StringIO()
        self.known = await why.tell(code, admin or self.admin, self.settings, Console(file=screen, width=200))
        return screen.getvalue()


@contextlib.asynccontextmanager
async def screen_of(database: Database, redis_url: str) -> AsyncIterator[Screen]:
    settings = lookup_settings(database.reader_url, redis_url)
    async with (
        lookup_running(settings) as lookup,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        relay_of(database, redis_url),
        aiohttp.ClientSession() as http,
    ):
        house = House(f"http://127.0.0.1:{lookup.port}", intake_url, http, await new_token(database))
        yield Screen(house, lookup, settings)


@pytest.fixture
async def screen(database: Database, redis_url: str) -> AsyncIterator[Screen]:
    async with screen_of(database, redis_url) as screen:
        yield screen


def row(text: str, where: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("│ " + where)]
    return line


async def test_everybody_s_copy_is_on_the_screen_and_no_person(screen: Screen) -> None:
    code = (await screen.house.receive())["code"]

    async def in_memory() -> bool:
        await screen.house.lookup(f"/api/v1/dossiers/{code}")
        text = await screen.of(code)
        return "trusted" in row(text, "memory") and "leans on the feed" in row(text, "Redis")

    await until(in_memory, within=LEANS_WITHIN)
    text = await screen.of(code.lower())
    for where in ("memory", "Redis", "postgres, primary"):
        assert row(text, where).split("│")[2].strip() == "1"
    assert "leans on the feed" in row(text, "Redis")
    assert "received" in row(text, "postgres, primary")
    assert "breakers  redis closed, postgres closed" in text
    assert "All copies have version 1." in text
    assert "Nguyễn" not in text
    assert screen.known


async def test_unknown_code_is_nowhere(screen: Screen) -> None:
    text = await screen.of(UNKNOWN)
    assert "No such dossier anywhere" in text


async def test_what_is_no_code_is_said_to_be_none(screen: Screen) -> None:
    assert "is not a dossier code" in await screen.of("nonsense")
    assert not screen.known


async def test_without_a_lookup_the_rest_is_shown(screen: Screen) -> None:
    code = (await screen.house.receive())["code"]
    text = await screen.of(code, admin="http://127.0.0.1:1")
    assert "no lookup answers at http://127.0.0.1:1" in row(text, "memory")
    assert row(text, "postgres, primary").split("│")[2].strip() == "1"
    assert "--admin" in text
    assert "code_hash" not in text  # its key was that lookup's own


async def test_hash_that_stands_for_the_code_in_the_log_is_on_the_screen(screen: Screen) -> None:
    assert f"lines about this code have code_hash {pseudonym(UNKNOWN)}" in await screen.of(UNKNOWN.lower())
    screen.settings = dataclasses.replace(screen.settings, log_hash_key=Secret("shared by all"))
    text = await screen.of(UNKNOWN, admin="http://127.0.0.1:1")
    assert f"lines about this code have code_hash {hashed_by('shared by all', UNKNOWN)}" in text


async def test_hashes_under_older_keys_are_on_the_screen_and_the_process_s_own_comes_first(screen: Screen) -> None:
    screen.settings = dataclasses.replace(screen.settings, log_hash_key=Secret("newest\nshared by all"))
    text = await screen.of(UNKNOWN)
    hashes = [pseudonym(UNKNOWN), *(hashed_by(key, UNKNOWN) for key in ("newest", "shared by all"))]
    places = [text.index(each) for each in hashes]
    assert places == sorted(places)
    assert text.count("under another key") == 2


async def test_copy_behind_the_primary_is_named(screen: Screen, database: Database, owner: Any) -> None:
    code = (await screen.house.receive())["code"]

    async def delivered() -> bool:
        await screen.house.lookup(f"/api/v1/dossiers/{code}")
        text = await screen.of(code)
        return "trusted" in row(text, "memory") and "the stream ends with" not in text

    await until(delivered, within=LEANS_WITHIN)
    await owner.execute("UPDATE dossier SET version = 5 WHERE code = $1", code)  # and no process is told
    text = await screen.of(code)
    assert "memory has version 1, the primary 5" in text
    assert "Redis has version 1, the primary 5" in text
    await owner.execute("UPDATE dossier SET version = 0 + 1, status = status WHERE code = $1", code)


async def test_copy_ahead_of_the_primary_points_to_a_renewal(screen: Screen, owner: Any) -> None:
    receipt = await screen.house.receive()
    await screen.house.move(receipt["code"], "processing")

    async def seen() -> bool:
        _, view = await screen.house.lookup(f"/api/v1/dossiers/{receipt['code']}")
        return bool(view.get("version") == 2)

    await until(seen)
    await owner.execute("UPDATE dossier SET version = 1, timeline = '[]' WHERE code = $1", receipt["code"])
    assert "is ahead of the primary: it was restored" in await screen.of(receipt["code"])


async def test_absent_servers_are_rows_that_say_so(fragile: Callable[..., Any]) -> None:
    from tests.conftest import prepare

    postgres, valkey = fragile()
    database = await prepare(postgres.admin_url, "hoso24")
    async with screen_of(database, valkey.url) as screen:
        code = (await screen.house.receive())["code"]
        await screen.house.lookup(f"/api/v1/dossiers/{code}")
        postgres.kill()
        valkey.kill()

        async def noticed() -> bool:
            text = await screen.of(code)
            return "redis OPEN, postgres OPEN" in text

        await until(noticed)
        text = await screen.of(code)
        assert "connection refused" in row(text, "Redis")
        assert "connection refused" in row(text, "postgres")
        assert row(text, "memory").split("│")[2].strip() == "1"
        assert "could not be asked" in text
        postgres.restart()
        valkey.restart()
