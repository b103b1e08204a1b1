"""Which caller is this, and what may it touch? A token is shown once, and only its hash is kept."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from intake import clients
from intake.clients import (
    ACTIONS,
    VERIFIED_FOR,
    WRONG_AT_ONCE,
    WRONG_AT_ONCE_OF_ALL,
    WRONG_PER_SECOND,
    Client,
    ClientRefused,
    OutOfScope,
    Tokens,
    TooManyWrongTokens,
    Unauthenticated,
    add_client,
    add_token,
    end_of,
    read_actions,
    revoke,
    set_disabled,
    set_scope,
)
from lookup.catalogue import Catalogue, load
from ops.errors import Unavailable
from ops.stores.postgres import Postgres
from tests.conftest import Database
from tests.house import ADD_SANDBOX

HERE, ELSEWHERE = bytes([203, 0, 113, 7]), bytes([203, 0, 113, 8])
SAMPLE = Catalogue({agency.code: agency for agency in load.sample()[0]})


@pytest.fixture
async def postgres(database: Database) -> AsyncIterator[Postgres]:
    pool = Postgres("postgres", lambda: database.writer_url, size=2, deadline=5)
    yield pool
    await pool.close()


@pytest.fixture
async def token(owner: Any) -> str:
    return await add_client(owner, "desk-1", "Quầy mẫu", "G99.01", ("receive", "read"))


async def test_token_leads_to_its_client(postgres: Postgres, token: str) -> None:
    client = await Tokens(postgres).authenticate(f"Bearer {token}", HERE)
    assert client == Client("desk-1", "Quầy mẫu", "G99.01", frozenset({"receive", "read"}))


async def test_client_of_the_sandbox_is_one(postgres: Postgres, owner: Any) -> None:
    await owner.execute(ADD_SANDBOX)
    token = await add_client(owner, "partner", "Phần mềm mẫu", "X99", ACTIONS, sandbox=True)
    assert (await Tokens(postgres).authenticate(f"Bearer {token}", HERE)).sandbox


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


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE client_token SET revoked_at = now()",
        "UPDATE client_token SET created_at = now() - interval '2 hours', expires_at = now() - interval '1 ms'",
        "UPDATE client SET disabled_at = now()",
    ],
)
async def test_token_out_of_force_is_refused(postgres: Postgres, token: str, owner: Any, change: str) -> None:
    await owner.execute(change)
    with pytest.raises(Unauthenticated, match="no longer valid"):
        await Tokens(postgres).authenticate(f"Bearer {token}", HERE)


async def test_database_keeps_no_token(token: str, owner: Any) -> None:
    row = await owner.fetchrow("SELECT * FROM client JOIN client_token ON client = id WHERE id = 'desk-1'")
    assert token[-43:] not in str(dict(row))
    assert len(row["token_hash"]) == 32


async def test_token_that_cannot_be_checked_is_unavailable_and_not_wrong(token: str) -> None:
    nowhere = Postgres("postgres", lambda: "postgresql://writer:x@127.0.0.1:1/nowhere", size=1, deadline=1)
    with pytest.raises(Unavailable):
        await Tokens(nowhere).authenticate(f"Bearer {token}", HERE)
    await nowhere.close()


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


async def test_actions_are_the_ones_the_database_knows(owner: Any) -> None:
    check = await owner.fetchval(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'client_actions_are_known'"
    )
    assert all(f"'{action}'" in check for action in ACTIONS)
    assert check.count("::text") >= len(ACTIONS) == check.count("'") // 2 - 1  # and '{}'


# -- what a process remembers ------------------------------------------------------------------------------


class Queries:
    """A pool that counts what it is asked."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self.asked: list[str] = []

    async def fetch(self, sql: str, *arguments: object) -> Any:
        self.asked.append(sql)
        return await self._postgres.fetch(sql, *arguments)

    def count(self, sql: str) -> int:
        return self.asked.count(sql)


async def test_confirmed_token_is_not_asked_about_for_five_seconds(postgres: Postgres, token: str) -> None:
    clock, queries = Clock(), Queries(postgres)
    tokens = Tokens(queries, clock)  # type: ignore[arg-type]
    first = await tokens.authenticate(f"Bearer {token}", HERE)
    clock.now += VERIFIED_FOR - 0.001
    assert [await tokens.authenticate(f"Bearer {token}", HERE) for _ in range(3)] == [first] * 3
    assert queries.count(clients.FIND_CLIENT) == 1
    clock.now += 0.001
    await tokens.authenticate(f"Bearer {token}", HERE)
    assert queries.count(clients.FIND_CLIENT) == 2


async def test_revocation_is_noticed_within_five_seconds_of_the_question_not_of_the_answer(
    postgres: Postgres, token: str, owner: Any
) -> None:
    clock = Clock()
    slow = Queries(postgres)
    tokens = Tokens(slow, clock)  # type: ignore[arg-type]
    answer = slow.fetch

    async def late(sql: str, *arguments: object) -> Any:
        rows = await answer(sql, *arguments)
        clock.now += 3.0
        return rows

    slow.fetch = late  # type: ignore[method-assign]
    await tokens.authenticate(f"Bearer {token}", HERE)
    await revoke(owner, "desk-1", 1)
    clock.now = VERIFIED_FOR - 0.001
    await tokens.authenticate(f"Bearer {token}", HERE)
    clock.now = VERIFIED_FOR
    with pytest.raises(Unauthenticated):
        await tokens.authenticate(f"Bearer {token}", HERE)


async def test_token_ends_when_it_expires_and_not_five_seconds_later(
    postgres: Postgres, token: str, owner: Any
) -> None:
    clock = Clock()
    tokens = Tokens(postgres, clock)
    await owner.execute("UPDATE client_token SET expires_at = now() + interval '4 s'")
    await tokens.authenticate(f"Bearer {token}", HERE)
    await owner.execute("UPDATE client_token SET created_at = '2020-01-01', expires_at = '2020-01-02'")
    clock.now += 4.0
    with pytest.raises(Unauthenticated):
        await tokens.authenticate(f"Bearer {token}", HERE)


async def test_confirmed_tokens_of_a_process_are_bounded(
    postgres: Postgres, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "REMEMBERED", 2)
    queries = Queries(postgres)
    tokens = Tokens(queries, Clock())  # type: ignore[arg-type]
    made = [await add_client(owner, f"desk-{n}", "x", "G99", ACTIONS) for n in range(3)]
    for token in (*made, made[2], made[1], made[0]):
        await tokens.authenticate(f"Bearer {token}", HERE)
    assert queries.count(clients.FIND_CLIENT) == 4  # only the one used longest ago had to go


async def noted(tokens: Tokens) -> None:
    """Until the day of use is written, or has failed."""
    if tokens._noting is not None:
        await asyncio.wait({tokens._noting})


async def test_day_of_the_last_use_is_written_once_a_day(postgres: Postgres, token: str, owner: Any) -> None:
    clock, queries = Clock(), Queries(postgres)
    today = await owner.fetchval("SELECT (now() AT TIME ZONE interval '7 hours')::date")
    for process in (Tokens(queries, clock), Tokens(queries, clock)):  # type: ignore[arg-type]
        for _ in range(3):
            await process.authenticate(f"Bearer {token}", HERE)
            await noted(process)
            clock.now += VERIFIED_FOR
    assert await owner.fetchval("SELECT last_used_on FROM client_token") == today
    assert queries.count(clients.NOTE_USE) == 1
    await owner.execute("UPDATE client_token SET last_used_on = last_used_on - 1")
    await process.authenticate(f"Bearer {token}", HERE)
    await noted(process)
    assert await owner.fetchval("SELECT last_used_on FROM client_token") == today


async def test_request_neither_waits_for_the_day_of_use_nor_fails_by_it(
    postgres: Postgres, token: str, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    tokens = Tokens(postgres, clock)
    async with owner.transaction():
        await owner.execute("SELECT FROM client_token FOR UPDATE")  # another process is about to write it
        assert (await tokens.authenticate(f"Bearer {token}", HERE)).id == "desk-1"
        await noted(tokens)
    assert caplog.text == ""
    await owner.execute("REVOKE UPDATE (last_used_on) ON client_token FROM hoso24_writer")
    clock.now += VERIFIED_FOR
    assert (await tokens.authenticate(f"Bearer {token}", HERE)).id == "desk-1"
    await noted(tokens)
    assert "Cannot write when tokens were last used" in caplog.text
    assert await owner.fetchval("SELECT last_used_on FROM client_token") is None


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


async def test_right_token_goes_on_beside_wrong_ones_and_is_compared_again(
    postgres: Postgres, token: str, owner: Any
) -> None:
    clock = Clock()
    tokens = Tokens(postgres, clock)
    await tokens.authenticate(f"Bearer {token}", HERE)
    clock.now += VERIFIED_FOR
    await refused(tokens, HERE, WRONG_AT_ONCE + 1)
    assert (await tokens.authenticate(f"Bearer {token}", HERE)).id == "desk-1"
    await set_disabled(owner, "desk-1", True)
    clock.now += VERIFIED_FOR
    await refused(tokens, HERE, WRONG_AT_ONCE + 1)
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


# -- what the owner does -----------------------------------------------------------------------------------


async def valid(postgres: Postgres, token: str) -> bool:
    try:
        await Tokens(postgres).authenticate(f"Bearer {token}", HERE)
    except Unauthenticated:
        return False
    return True


async def test_second_token_is_in_force_beside_the_first_and_a_third_has_to_wait(
    postgres: Postgres, token: str, owner: Any
) -> None:
    second = await add_token(owner, "desk-1")
    assert (await valid(postgres, token), await valid(postgres, second)) == (True, True)
    with pytest.raises(ClientRefused, match=r"2 tokens in force already, 1 and 2; .*`hoso24 client revoke desk-1 1`"):
        await add_token(owner, "desk-1")
    await revoke(owner, "desk-1", 1)
    third = await add_token(owner, "desk-1")
    assert [await valid(postgres, each) for each in (token, second, third)] == [False, True, True]


async def test_expired_token_makes_room_for_another(token: str, owner: Any) -> None:
    await add_token(owner, "desk-1", expires_at=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(ClientRefused, match="2 tokens in force"):
        await add_token(owner, "desk-1")
    await owner.execute("UPDATE client_token SET created_at = '2020-01-01', expires_at = '2020-01-02' WHERE n = 2")
    assert await add_token(owner, "desk-1")


async def test_tokens_made_at_the_same_moment_are_two_at_most(database: Database, token: str) -> None:
    owners = [await asyncpg.connect(database.owner_url) for _ in range(4)]
    ended = await asyncio.gather(*(add_token(owner, "desk-1") for owner in owners), return_exceptions=True)
    assert [isinstance(each, ClientRefused) for each in ended].count(True) == 3
    for owner in owners:
        await owner.close()


async def test_disabled_client_is_refused_with_all_its_tokens_until_it_is_enabled(
    postgres: Postgres, token: str, owner: Any
) -> None:
    second = await add_token(owner, "desk-1")
    await set_disabled(owner, "desk-1", True)
    assert (await valid(postgres, token), await valid(postgres, second)) == (False, False)
    await set_disabled(owner, "desk-1", False)
    assert (await valid(postgres, token), await valid(postgres, second)) == (True, True)


async def test_scope_is_changed_and_the_token_stays(postgres: Postgres, token: str, owner: Any) -> None:
    assert await set_scope(owner, "desk-1", agency="G99.02") == ("G99.02", ("receive", "read"))
    assert await set_scope(owner, "desk-1", actions=("sync", "follow"), name="Phòng mẫu") == (
        "G99.02",
        ("sync", "follow"),
    )
    client = await Tokens(postgres).authenticate(f"Bearer {token}", HERE)
    assert client == Client("desk-1", "Phòng mẫu", "G99.02", frozenset({"sync", "follow"}))


MISTAKES = [
    (lambda c: add_client(c, "desk-1", "x", "G99", ACTIONS), "There is a client desk-1 already; `hoso24 client token"),
    *(
        (lambda c, wrong=wrong: add_client(c, wrong, "x", "G99", ACTIONS), "it has 1 to 40 lower-case letters")
        for wrong in ("", "Desk", "desk 1", "desk_1", "x" * 41, "quầy", "desk\udcff")
    ),
    (lambda c: add_client(c, "d", "x", "G77", ACTIONS), "There is no agency 'G77' in the catalogue"),
    (lambda c: add_client(c, "d", "x", "G\udcff", ACTIONS), "There is no agency 'G\\udcff' in the catalogue"),
    (lambda c: add_client(c, "d", "x", "G99", ("rule",)), "There is no action 'rule'; there are: receive, move"),
    (lambda c: add_client(c, "d", "x", "G99", ()), "A client without an action could do nothing"),
    (lambda c: add_client(c, "d", "  ", "G99", ACTIONS), "needs a name in one line"),
    (lambda c: add_client(c, "d", "x\ny", "G99", ACTIONS), "needs a name in one line"),
    (lambda c: add_token(c, "desk-2"), "There is no client 'desk-2'; `hoso24 client list`"),
    (lambda c: add_token(c, "\udcff"), "There is no client '\\udcff'"),
    (lambda c: revoke(c, "desk-2", 1), "There is no client 'desk-2'"),
    (lambda c: revoke(c, "desk-1", 0), "Client desk-1 has no token 0; it has 1."),
    (lambda c: revoke(c, "desk-1", 10**6), "Client desk-1 has no token 1000000"),
    (lambda c: set_disabled(c, "desk-2", True), "There is no client 'desk-2'"),
    (lambda c: set_disabled(c, "desk-1", False), "Client desk-1 is enabled already"),
    (lambda c: set_scope(c, "desk-2", agency="G99"), "There is no client 'desk-2'"),
    (lambda c: set_scope(c, "desk-1", agency="G77"), "There is no agency 'G77'"),
    (lambda c: set_scope(c, "desk-1", actions=()), "A client without an action"),
    (lambda c: set_scope(c, "desk-1", name=""), "needs a name"),
    (lambda c: clients.listed(c, "desk-2"), "There is no client 'desk-2'"),
]


@pytest.mark.parametrize(("work", "sentence"), MISTAKES)
async def test_mistake_is_a_sentence_that_tells_no_hash_and_changes_nothing(
    owner: Any, token: str, work: Any, sentence: str
) -> None:
    everything = "SELECT (client.*)::text, (client_token.*)::text FROM client LEFT JOIN client_token ON client = id"
    before = await owner.fetch(everything)
    with pytest.raises(ClientRefused) as refused:
        await work(owner)
    assert sentence in str(refused.value)
    stored = await owner.fetchval("SELECT encode(token_hash, 'hex') FROM client_token")
    assert stored[:8] not in str(refused.value)
    assert refused.value.__cause__ is None
    assert await owner.fetch(everything) == before


async def test_token_revoked_twice_is_told(owner: Any, token: str) -> None:
    await revoke(owner, "desk-1", 1)
    with pytest.raises(ClientRefused, match="Token 1 of client desk-1 is revoked already"):
        await revoke(owner, "desk-1", 1)


@pytest.mark.parametrize(
    "text", ["receive, move", "receive,move", " move receive ", "move,,receive,move", "move\nreceive"]
)
def test_actions_are_understood_however_they_are_separated(text: str) -> None:
    assert read_actions(text) == ("receive", "move")


def test_last_day_of_a_token_is_whole_and_not_over() -> None:
    now = datetime(2026, 11, 30, 16, 59, tzinfo=UTC)  # 23:59 in Vietnam
    end = end_of(date(2026, 11, 30), now)
    assert end is not None
    assert now < end < datetime(2026, 11, 30, 17, 0, tzinfo=UTC)
    with pytest.raises(ClientRefused, match="The token's last day, 2026-11-30, is over"):
        end_of(date(2026, 11, 30), now + timedelta(minutes=1))
    assert end_of(None, now) is None
    assert end_of(date.max, now) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO client (id, name, agency, actions) VALUES ('x', 'x', 'G99', '{read}')",
        "UPDATE client SET agency = 'G99'",
        "UPDATE client_token SET revoked_at = NULL",
        "UPDATE client_token SET client = 'desk-1'",
        "INSERT INTO client_token (client, n, token_hash) VALUES ('desk-1', 2, sha256('x'))",
        "DELETE FROM client_token",
    ],
)
async def test_intake_itself_can_neither_make_nor_change_a_client(writer: Any, token: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await writer.execute(statement)


async def test_table_tells_clients_and_tokens_and_no_hash(owner: Any, token: str) -> None:
    await owner.execute(ADD_SANDBOX)
    await add_client(owner, "a-desk", "[b]Quầy[/b]", "X99", ("move",), sandbox=True)
    await owner.execute("UPDATE client_token SET created_at = '2026-11-29T20:00Z' WHERE client = 'desk-1'")
    await add_token(owner, "desk-1", expires_at=datetime(2999, 6, 30, 16, 59, tzinfo=UTC))
    await revoke(owner, "desk-1", 1)
    await set_disabled(owner, "a-desk", True)
    hashes = [row["hash"] for row in await owner.fetch("SELECT encode(token_hash, 'hex') AS hash FROM client_token")]

    async def shown(client_id: str | None) -> str:
        out = io.StringIO()
        rows = await clients.listed(owner, client_id)
        Console(file=out, width=300).print(clients.table(rows), markup=False)
        return out.getvalue()

    every, one = await shown(None), await shown("desk-1")
    assert "[b]Quầy[/b] (disabled, sandbox)" in every
    assert "client disabled" in every
    assert "2999-06-30 23:59" in every
    assert ("2026-11-30 03:00" in every, "2026-11-30 03:00" in one) == (False, True)
    assert ("revoked" in every, "revoked" in one) == (False, True)
    assert every.count("desk-1") == one.count("desk-1") == 1
    assert not any(each[:8] in every + one for each in hashes)
    assert token[-43:] not in every + one
