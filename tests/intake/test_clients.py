"""Which caller is this, and what may it touch? A token is shown once, and only its hash is kept."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from intake import clients
from intake.clients import (
    ACTIONS,
    WRONG_AT_ONCE,
    WRONG_AT_ONCE_OF_ALL,
    WRONG_PER_SECOND,
    Client,
    OutOfScope,
    Tokens,
    TooManyWrongTokens,
    Unauthenticated,
    add_client,
)
from lookup.catalogue import Catalogue, load
from ops.errors import Unavailable
from ops.stores.postgres import Postgres
from tests.conftest import Database

HERE, ELSEWHERE = bytes([203, 0, 113, 7]), bytes([203, 0, 113, 8])
SAMPLE = Catalogue({agency.code: agency for agency in load.sample()[0]})


@pytest.fixture
async def postgres(database: Database) -> AsyncIterator[Postgres]:
    pool = Postgres("postgres", lambda: database.writer_url, size=2, deadline=5)
    yield pool
    await pool.close()


@pytest.fixture
async def token(writer: Any) -> str:
    return await add_client(writer, "desk-1", "Quầy mẫu", "G99.01", ("receive", "read"))


async def test_token_leads_to_its_client(postgres: Postgres, token: str) -> None:
    client = await Tokens(postgres).authenticate(f"Bearer {token}", HERE)
    assert client == Client("desk-1", "Quầy mẫu", "G99.01", frozenset({"receive", "read"}))


@pytest.mark.parametrize("spelling", ["bearer {}", "BEARER {}", "Bearer   {} "])
async def test_scheme_may_be_spelt_in_any_way(postgres: Postgres, token: str, spelling: str) -> None:
    assert (await Tokens(postgres).authenticate(spelling.format(token), HERE)).id == "desk-1"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: None,
        lambda token: "",
        lambda token: "Bearer",
        lambda token: token,
        lambda token: f"Basic {token}",
        lambda token: f"Bearer {token}x",
        lambda token: f"Bearer {token[:-1]}",
        lambda token: f"Bearer {token.swapcase()}",
        lambda token: f"Bearer {token.replace('desk-1', 'desk-2')}",
        lambda token: f"Bearer {token.replace('desk-1', '')}",
        lambda token: f"Bearer h24_desk-1_{'A' * 43}",
        lambda token: f"Bearer h24_desk-1'--_{token[-43:]}",
        lambda token: f"Bearer {token}, Bearer {token}",
        lambda token: "Bearer \udcff\udcfe",
    ],
)
async def test_anything_but_the_token_is_refused(postgres: Postgres, token: str, spoil: Any) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await Tokens(postgres).authenticate(spoil(token), HERE)
    assert token[-43:-1] not in str(refused.value)


@pytest.mark.parametrize("span", ["valid_to = now()", "valid_from = now() + interval '1 hour'"])
async def test_token_out_of_its_time_is_refused(postgres: Postgres, token: str, owner: Any, span: str) -> None:
    await owner.execute(f"UPDATE client SET {span} WHERE id = 'desk-1'")
    with pytest.raises(Unauthenticated, match="no longer valid"):
        await Tokens(postgres).authenticate(f"Bearer {token}", HERE)


async def test_new_token_puts_an_end_to_the_old_one(postgres: Postgres, token: str, writer: Any) -> None:
    renewed = await add_client(writer, "desk-1", "Quầy mẫu", "G99.02", ("move",))
    with pytest.raises(Unauthenticated):
        await Tokens(postgres).authenticate(f"Bearer {token}", HERE)
    assert (await Tokens(postgres).authenticate(f"Bearer {renewed}", HERE)).agency == "G99.02"


async def test_database_keeps_no_token(token: str, owner: Any) -> None:
    row = await owner.fetchrow("SELECT * FROM client WHERE id = 'desk-1'")
    assert token[-43:] not in str(dict(row))
    assert len(row["token_hash"]) == 32


async def test_token_that_cannot_be_checked_is_unavailable_and_not_wrong(token: str) -> None:
    nowhere = Postgres("postgres", lambda: "postgresql://writer:x@127.0.0.1:1/nowhere", size=1, deadline=1)
    with pytest.raises(Unavailable):
        await Tokens(nowhere).authenticate(f"Bearer {token}", HERE)
    await nowhere.close()


@pytest.mark.parametrize("client_id", ["", "Desk", "desk 1", "desk_1", "x" * 41, "quầy"])
async def test_client_whose_id_does_not_fit_a_token_is_not_made(writer: Any, client_id: str) -> None:
    with pytest.raises(ValueError, match="1 to 40"):
        await add_client(writer, client_id, "x", "G99", ACTIONS)
    assert await writer.fetchval("SELECT count(*) FROM client") == 0


@pytest.mark.parametrize(
    ("agency", "actions", "promise"),
    [
        ("G99", ("receive", "rule"), "client_actions_are_known"),
        ("G99", (), "client_actions_are_known"),
        ("NOWHERE", ("receive",), "client_agency_fkey"),
    ],
)
async def test_database_knows_every_agency_and_action(
    writer: Any, agency: str, actions: tuple[str, ...], promise: str
) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=promise):
        await add_client(writer, "desk-1", "x", agency, actions)


@pytest.mark.parametrize(
    ("action", "agency", "allowed"),
    [
        ("receive", "G99.01", True),
        ("read", "G99.01.03", True),
        ("receive", "99901", True),
        ("move", "G99.01", False),
        ("receive", "G99", False),
        ("receive", "G99.02", False),
        ("receive", "nowhere", False),
        ("", "G99.01", False),
    ],
)
def test_client_may_do_what_it_was_given_where_it_was_given(action: str, agency: str, allowed: bool) -> None:
    client = Client("desk-1", "x", "G99.01", frozenset({"receive", "read"}))
    if allowed:
        client.require(action, agency, SAMPLE)
    else:
        with pytest.raises(OutOfScope):
            client.require(action, agency, SAMPLE)


def test_actions_are_the_ones_the_database_knows() -> None:
    assert clients.ACTIONS == ("receive", "move", "bind", "read")


# -- wrong tokens ------------------------------------------------------------------------------------------------


class Clock:
    """A clock that stands until it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def wrong(number: int) -> str:
    return f"Bearer h24_nobody_{number:043}"


async def refused(tokens: Tokens, address: bytes, count: int) -> list[type]:
    """What so many wrong tokens are refused with."""
    kinds: list[type] = []
    for number in range(count):
        with pytest.raises((Unauthenticated, TooManyWrongTokens)) as refusal:
            await tokens.authenticate(wrong(number), address)
        kinds.append(refusal.type)
    return kinds


async def test_wrong_tokens_of_an_address_are_limited_and_those_of_others_are_not(postgres: Postgres) -> None:
    clock = Clock()
    tokens = Tokens(postgres, clock)
    limit = [Unauthenticated] * WRONG_AT_ONCE
    assert await refused(tokens, HERE, WRONG_AT_ONCE + 2) == [*limit, TooManyWrongTokens, TooManyWrongTokens]
    assert await refused(tokens, ELSEWHERE, 1) == [Unauthenticated]
    clock.now += 2 / WRONG_PER_SECOND
    assert await refused(tokens, HERE, 3) == [Unauthenticated, Unauthenticated, TooManyWrongTokens]


async def test_postgres_is_not_asked_about_a_token_over_the_limit(
    postgres: Postgres, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(postgres, Clock())
    await refused(tokens, HERE, WRONG_AT_ONCE)
    monkeypatch.setattr(postgres, "fetch", None)
    with pytest.raises(TooManyWrongTokens):
        await tokens.authenticate(f"Bearer {token}", HERE)  # not seen yet


async def test_right_token_goes_on_beside_wrong_ones_and_is_compared_each_time(
    postgres: Postgres, token: str, owner: Any
) -> None:
    tokens = Tokens(postgres, Clock())
    await tokens.authenticate(f"Bearer {token}", HERE)
    await refused(tokens, HERE, WRONG_AT_ONCE + 1)
    assert (await tokens.authenticate(f"Bearer {token}", HERE)).id == "desk-1"
    await owner.execute("UPDATE client SET valid_to = now() WHERE id = 'desk-1'")
    with pytest.raises(Unauthenticated):
        await tokens.authenticate(f"Bearer {token}", HERE)
    with pytest.raises(TooManyWrongTokens):
        await tokens.authenticate(f"Bearer {token}", HERE)


async def test_wrong_tokens_of_thousands_of_addresses_are_limited_together(postgres: Postgres) -> None:
    clock = Clock()
    tokens = Tokens(postgres, clock)
    kinds = []
    for number in range(WRONG_AT_ONCE_OF_ALL + 1):
        kinds += await refused(tokens, number.to_bytes(4), 1)
    assert kinds == [Unauthenticated] * WRONG_AT_ONCE_OF_ALL + [TooManyWrongTokens]
    clock.now += 1.0
    assert await refused(tokens, ELSEWHERE, 1) == [Unauthenticated]


async def test_address_that_failed_longest_ago_is_forgotten_first(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "REMEMBERED", 2)
    failures = clients._Failures(1, 1.0, Clock())
    for address in ("one", "two", "one", "three"):
        failures.count(address)
    assert [failures.exceeded(address) for address in ("one", "two", "three")] == [True, False, True]
