"""Whom a lookup asks: the freshest standby, else the primary; roles as they are and not as they were."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, cast

import asyncpg
import pytest

from loadtests.system.pauses import pause, resume
from loadtests.system.replicated_postgres import ReplicatedPostgres
from lookup.clock import DatabaseClock, microseconds
from lookup.dossier import unpack
from lookup.reading.freshness import SECOND
from lookup.reading.hosts import LARGEST_LAG, PROBE, Hosts, Present, Role
from lookup.reading.store import DOSSIERS, NUMBERS, Store
from ops.errors import Unavailable
from ops.local.reaper import Reaper
from ops.local.servers import LocalServer
from ops.stores.postgres import Postgres
from ops.stores.urls import each_host
from tests.conftest import NO_FSYNC, Database, prepare
from tests.house import until
from tests.places import in_memory


@pytest.mark.parametrize(
    ("url", "each"),
    [
        ("postgresql://u:p@one/db", ["postgresql://u:p@one/db"]),
        (
            "postgresql://u:p%40@one:5432,two:5433/db?sslmode=require",
            ["postgresql://u:p%40@one:5432/db?sslmode=require", "postgresql://u:p%40@two:5433/db?sslmode=require"],
        ),
        ("postgresql://[::1]:5432,[::2]/db", ["postgresql://[::1]:5432/db", "postgresql://[::2]/db"]),
    ],
)
def test_every_host_has_its_own_url(url: str, each: list[str]) -> None:
    assert each_host(url) == each


class Pair:
    """A primary and its standby, and a database on both."""

    def __init__(self, primary: ReplicatedPostgres, standby: ReplicatedPostgres, database: Database) -> None:
        self.primary = primary
        self.standby = standby
        self.database = database

    @property
    def reader_url(self) -> str:
        both = f"@127.0.0.1:{self.standby.port},127.0.0.1:{self.primary.port}/"
        return self.database.reader_url.replace(f"@127.0.0.1:{self.primary.port}/", both)

    async def on_standby(self, sql: str) -> Any:
        return await run(self.standby.admin_url, sql)

    async def on_primary(self, sql: str) -> Any:
        return await run(self.database.owner_url, sql)

    async def arrive(self) -> None:
        """Wait until the standby has what the primary has now."""
        at = await run(self.primary.admin_url, "SELECT pg_current_wal_lsn()::text")

        async def there() -> bool:
            return bool(await self.on_standby(f"SELECT pg_last_wal_replay_lsn() >= '{at}'::pg_lsn"))

        await until(there)


async def run(url: str, sql: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


@pytest.fixture
def two_servers(reaper: Reaper) -> Iterator[tuple[ReplicatedPostgres, ReplicatedPostgres]]:
    directory = Path(tempfile.mkdtemp(prefix="hoso24-pair-", dir=in_memory()))
    directory.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        primary = stack.enter_context(ReplicatedPostgres.start(directory / "primary", settings=NO_FSYNC, reaper=reaper))
        asyncio.run(prepare(primary.admin_url, "hoso24"))
        yield (
            primary,
            stack.enter_context(
                ReplicatedPostgres.start_standby(directory / "standby", primary, settings=NO_FSYNC, reaper=reaper)
            ),
        )


@pytest.fixture
async def pair(two_servers: tuple[ReplicatedPostgres, ReplicatedPostgres]) -> Pair:
    primary, standby = two_servers
    return Pair(primary, standby, Database("hoso24", primary.admin_url))


@pytest.fixture
async def hosts(pair: Pair) -> AsyncIterator[Hosts]:
    hosts = Hosts(lambda: pair.reader_url, DatabaseClock(), size=2, deadline=5.0, pooled=False)
    await hosts.probe()
    yield hosts
    await hosts.close()


def names(hosts: Any) -> list[str]:
    return [host.name for host in hosts]


async def beat(pair: Pair) -> None:
    """What the relay does once a second."""
    await run(pair.database.relay_url, "UPDATE heartbeat SET at = now(), xid = pg_current_xact_id()")


async def test_standby_is_asked_and_says_how_far_it_is(pair: Pair, hosts: Hosts) -> None:
    await beat(pair)
    await pair.arrive()
    assert [host.role for host in hosts.all] == [Role.STANDBY, Role.PRIMARY]
    assert names(hosts.readers())[:2] == ["postgres-1", "postgres-2"]
    assert names(hosts.primaries()) == ["postgres-2"]
    loaded = await Store(hosts).dossiers(["G99.12.01-260101-9999"])
    assert loaded.standby
    beat_at = await pair.on_primary("SELECT (extract(epoch FROM at) * 1000000)::bigint FROM heartbeat")
    assert loaded.as_of == beat_at  # not now: a standby knows what has reached it
    from_primary = await Store(hosts).dossiers(["G99.12.01-260101-9999"], primary=True)
    assert not from_primary.standby
    assert from_primary.as_of > beat_at


async def test_horizon_of_a_standby_is_not_ahead_of_what_it_has(pair: Pair, hosts: Hosts) -> None:
    await beat(pair)
    await pair.arrive()
    await pair.on_standby("SELECT pg_wal_replay_pause()")
    await beat(pair)
    xid = await pair.on_primary("SELECT xid::text::bigint FROM heartbeat")
    assert (await Store(hosts).dossiers(["x"])).horizon <= xid
    assert (await Store(hosts).dossiers(["x"], primary=True)).horizon > xid


async def test_standby_far_behind_is_asked_after_the_primary(pair: Pair, hosts: Hosts) -> None:
    await beat(pair)
    await pair.arrive()
    await pair.on_standby("SELECT pg_wal_replay_pause()")
    await run(
        pair.database.relay_url,
        "UPDATE heartbeat SET at = now() + interval '11 s', xid = pg_current_xact_id()",
    )
    await hosts.probe()
    assert names(hosts.readers()) == ["postgres-2", "postgres-1"]
    pair.primary.kill()
    await hosts.probe()
    await hosts.probe()
    assert names(hosts.readers()) == ["postgres-1"]
    assert (await Store(hosts).dossiers(["x"])).standby


@pytest.mark.parametrize("fault", [LocalServer.kill, pause])
async def test_no_answer_is_lost_with_a_standby(pair: Pair, hosts: Hosts, fault: Callable[[LocalServer], None]) -> None:
    store = Store(hosts)
    assert (await store.dossiers(["x"])).standby
    fault(pair.standby)
    try:
        for _ in range(5):
            assert not (await store.dossiers(["x"])).standby
        assert hosts.all[0].breaker.open
        assert hosts.reachable
    finally:
        resume(pair.standby)


async def test_query_that_a_standbys_recovery_cancels_means_that_it_is_away(pair: Pair) -> None:
    await pair.on_standby("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    await pair.on_standby("SELECT pg_reload_conf()")
    standby = Postgres("postgres-1", lambda: each_host(pair.reader_url)[0], size=1, deadline=120.0)
    asking = asyncio.create_task(standby.fetch("SELECT pg_sleep(100) FROM heartbeat"))
    under_way = """
        SELECT EXISTS (SELECT FROM pg_stat_activity
                        WHERE query LIKE '%pg_sleep(100) FROM%' AND wait_event = 'PgSleep')
    """
    await until(lambda: pair.on_standby(under_way))

    async def cancelled() -> bool:
        await beat(pair)
        await pair.on_primary("VACUUM heartbeat")  # removes the row it is looking at
        return asking.done()

    await until(cancelled, within=60)
    with pytest.raises(Unavailable) as away:
        await asking
    assert isinstance(away.value.__cause__, asyncpg.SerializationError)
    await standby.close()


class Hung:
    """A host that never answers, and remembers how long it was given."""

    def __init__(self) -> None:
        self.given: list[float | None] = []

    async def fetch(self, sql: str, *arguments: object, deadline: float | None = None) -> list[Any]:
        self.given.append(deadline)
        raise Unavailable("It hangs.")


def hosts_of(url: str = "postgresql://reader@one,two,three/hoso24") -> Hosts:
    return Hosts(lambda: url, DatabaseClock(), size=2, deadline=1.0, pooled=False)


@pytest.mark.parametrize(
    ("url", "called"),
    [("postgresql://u@one/db", ["postgres"]), ("postgresql://u@a,b/db", ["postgres-1", "postgres-2"])],
)
def test_single_host_has_no_number(url: str, called: list[str]) -> None:
    assert names(hosts_of(url).all) == called


S, P, U = Role.STANDBY, Role.PRIMARY, Role.UNKNOWN
FAR = round(LARGEST_LAG * SECOND)
"""The largest lag of a standby that is asked before the primary, microseconds."""


@pytest.mark.parametrize(
    ("roles", "beats", "asked"),
    [
        ((S, S, P), (10, 20, 20), [2, 1, 3]),
        ((P, S, S), (FAR + 1, 1, FAR), [3, 2, 1]),
        ((P, S, S), (FAR + 1, 0, FAR), [3, 1, 2]),
        ((U, S, U), (0, 5, 0), [2, 1, 3]),
        ((P, P, U), (5, 6, 0), [2, 3]),
        ((U, U, U), (0, 0, 0), [1, 2, 3]),
    ],
)
def test_freshest_standby_then_the_primary_then_who_is_far_behind_then_the_unknown(
    roles: tuple[Role, ...], beats: tuple[int, ...], asked: list[int]
) -> None:
    hosts = hosts_of()
    for host, role, beat_at in zip(hosts.all, roles, beats, strict=True):
        host.role, host.beat_at = role, beat_at
    assert names(hosts.readers()) == [f"postgres-{number}" for number in asked]


def test_host_whose_breaker_is_open_is_not_asked_and_its_lag_is_not_told() -> None:
    hosts = hosts_of()
    now = hosts._clock.now()
    for host, role in zip(hosts.all, (S, S, P), strict=True):
        host.role, host.beat_at = role, now - 3 * SECOND
    for _ in range(2):
        with contextlib.suppress(Unavailable), hosts.all[0].breaker:
            raise Unavailable("It hangs.")
    assert names(hosts.readers()) == ["postgres-2", "postgres-3"]
    lags = hosts.lags()
    assert (lags["postgres-1"], lags["postgres-3"]) == (0, 0)
    assert 3 <= lags["postgres-2"] < 60


async def test_standbys_that_hang_leave_time_for_the_primary() -> None:
    hosts = hosts_of()
    hung = [Hung() for _ in hosts.all]
    roles = (Role.STANDBY, Role.STANDBY, Role.PRIMARY)
    for host, postgres, role in zip(hosts.all, hung, roles, strict=True):
        host.postgres, host.role = postgres, role  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        await hosts.ask("SELECT 1")
    assert [each.given for each in hung] == [[0.25], [0.25], [1.0]]
    with pytest.raises(Unavailable):
        await hosts.ask("SELECT 1", primary=True)
    assert [each.given for each in hung] == [[0.25], [0.25], [1.0, 1.0]]


@pytest.mark.parametrize(
    ("away", "told"),
    [
        (Unavailable("It cannot be reached.", reason="db-1:5432 refused"), "db-1:5432 refused"),
        (Unavailable("It cannot be reached."), "It cannot be reached."),
    ],
)
async def test_why_a_host_could_not_be_asked_is_told_as_exactly_as_it_is_known(away: Unavailable, told: str) -> None:
    hosts = Hosts(lambda: "postgresql://reader@one/hoso24", DatabaseClock(), size=2, deadline=1.0, pooled=False)
    (host,) = hosts.all

    async def fetch(*_: object, **__: object) -> list[Any]:
        raise away

    host.postgres.fetch = fetch  # type: ignore[method-assign]
    with pytest.raises(Unavailable) as refusal:
        await hosts.present()
    assert (host.trouble, refusal.value.reason) == (told, told)


async def test_unanswered_statements_leave_nothing_to_the_garbage_collector(garbage: Callable[[], int]) -> None:
    """It stops the whole process for as long as it clears away."""
    hosts = Hosts(lambda: "postgresql://reader@one,two/hoso24", DatabaseClock(), size=2, deadline=1.0, pooled=False)

    async def in_vain() -> None:
        for ask in (hosts.ask, hosts.fetch):
            with pytest.raises(Unavailable):
                await ask("SELECT 1")

    for host in hosts.all:
        host.postgres = Hung()  # type: ignore[assignment]
    for _ in range(50):  # of the first few each host hears, of the others none
        await in_vain()
    assert garbage() < 50


async def test_of_several_hosts_changes_go_to_the_primary_wherever_it_stands(pair: Pair) -> None:
    standby_first = pair.reader_url.replace("hoso24_reader", "hoso24_writer")
    changes = Postgres("postgres", lambda: standby_first, size=1, deadline=20.0)

    async def in_recovery() -> Any:
        with contextlib.suppress(Unavailable):  # of a connection that was cut the first call hears
            return [row[0] for row in await changes.fetch("SELECT pg_is_in_recovery()")]

    assert await in_recovery() == [False]
    pair.primary.kill()
    await pair.on_standby("SELECT pg_promote(wait => true)")
    assert await until(in_recovery) == [False]
    await changes.close()


async def test_promoted_standby_is_the_primary_within_a_probe(pair: Pair, hosts: Hosts) -> None:
    await beat(pair)
    await pair.arrive()
    pair.primary.kill()
    await pair.on_standby("SELECT pg_promote(wait => true)")
    await hosts.probe()
    assert names(hosts.primaries()) == ["postgres-1"]
    assert not (await Store(hosts).dossiers(["x"], primary=True)).standby


async def test_of_two_primaries_the_one_whose_heartbeat_goes_on_is_believed(pair: Pair, hosts: Hosts) -> None:
    await beat(pair)
    await pair.arrive()
    pause(pair.primary)  # it will wake and still call itself the primary
    await pair.on_standby("SELECT pg_promote(wait => true)")
    await run(
        pair.database.relay_url.replace(str(pair.primary.port), str(pair.standby.port)),
        "UPDATE heartbeat SET at = now() + interval '1 s', xid = pg_current_xact_id()",
    )
    resume(pair.primary)
    await hosts.probe()
    assert [host.role for host in hosts.all] == [Role.PRIMARY, Role.PRIMARY]
    assert names(hosts.primaries()) == ["postgres-1"]


async def test_without_any_host_it_is_unavailable_and_back_by_the_next_probe(pair: Pair, hosts: Hosts) -> None:
    pair.standby.kill()
    pair.primary.kill()
    for _ in range(2):
        await hosts.probe()
    assert [hosts.reachable] == [False]
    with pytest.raises(Unavailable):
        await Store(hosts).dossiers(["x"])
    with pytest.raises(Unavailable):
        await hosts.present()
    pair.primary.restart()
    await hosts.probe()
    assert [hosts.reachable] == [True]
    assert not (await Store(hosts).dossiers(["x"])).standby
    assert await hosts.present() == {"postgres-1": "unreachable: connection refused", "postgres-2": "primary"}


# -- without servers ---------------------------------------------------------------------------------------------------


CODE = "G99.01.01-261120-0001"
NOON = datetime(2026, 11, 22, 5, tzinfo=UTC)


class Answering:
    """A host that answers with this row, or not at all."""

    def __init__(self, **row: Any) -> None:
        given = {"standby": False, "beat_at": NOON, "asked_at": NOON, "epoch": 3, "schema_version": 6}
        self.row = given | {"schema_asks_for": 2, "schema_made_by": None} | row
        self.name = ""
        self.away = False
        self.asked: list[tuple[Any, ...]] = []

    async def fetch(self, sql: str, *arguments: object, deadline: float | None = None) -> list[Any]:
        self.asked.append((sql, *arguments))
        if self.away:
            raise Unavailable("It is away.", reason="gone")
        return [self.row]


def of(*answering: Answering) -> Hosts:
    hosts = hosts_of("postgresql://reader@" + ",".join(f"h{n}" for n, _ in enumerate(answering)) + "/hoso24")
    for host, postgres in zip(hosts.all, answering, strict=True):
        postgres.name = host.name
        host.postgres = postgres  # type: ignore[assignment]
    return hosts


async def test_probe_says_what_a_host_reports_and_remembers_its_role() -> None:
    primary, standby = Answering(), Answering(standby=True, beat_at=NOON - timedelta(seconds=2), schema_version=None)
    hosts = of(primary, standby)
    assert await hosts.probe() == [Present(3, 6, 2, None), Present(3, 0, 2, None)]
    assert [host.role for host in hosts.all] == [P, S]
    assert [host.beat_at for host in hosts.all] == [microseconds(NOON), microseconds(NOON) - 2 * SECOND]
    assert await hosts.present() == {"postgres-1": "primary", "postgres-2": "standby"}
    assert primary.asked[0] == (PROBE,)
    assert abs(hosts._clock.now() - microseconds(NOON)) < 60 * SECOND


async def test_host_that_is_away_keeps_its_role_until_its_breaker_is_open() -> None:
    primary, standby = Answering(), Answering(standby=True)
    hosts = of(primary, standby)
    await hosts.probe()
    primary.away = True
    for role in (P, U):
        assert await hosts.probe() == [Present(3, 6, 2, None)]
        assert (hosts.all[0].role, hosts.all[0].trouble) == (role, "gone")
    assert [hosts.reachable] == [True]
    assert await hosts.present() == {"postgres-1": "unreachable: gone", "postgres-2": "standby"}
    standby.away = True
    await hosts.probe()
    await hosts.probe()
    assert [hosts.reachable] == [False]
    with pytest.raises(Unavailable, match=r"No PostgreSQL host answers\."):
        await hosts.present()
    primary.away = False
    assert await hosts.probe() == [Present(3, 6, 2, None)]
    assert (hosts.all[0].role, hosts.all[0].trouble) == (P, "")


async def test_statement_is_asked_of_the_next_host_when_one_is_away() -> None:
    primary, standby = Answering(), Answering(standby=True)
    hosts = of(primary, standby)
    await hosts.probe()
    standby.away = True
    (row,) = await hosts.ask("SELECT $1", 7)
    assert row is primary.row
    assert standby.asked[-1] == primary.asked[-1] == ("SELECT $1", 7)
    (row,) = await hosts.fetch("SELECT $1", 8)
    assert row is primary.row
    primary.away = True
    for ask in (hosts.ask, hosts.fetch):
        with pytest.raises(Unavailable):
            await ask("SELECT 1")


async def test_primary_that_has_become_a_standby_answers_nothing_that_is_asked_of_the_primary() -> None:
    hosts = of(Answering())
    await hosts.probe()
    hosts.all[0].postgres.row["standby"] = True  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="No PostgreSQL host that may answer this query can be reached now"):
        await hosts.ask("SELECT 1", primary=True)
    with pytest.raises(Unavailable, match="No PostgreSQL host that may answer this query can be reached now"):
        await hosts.ask("SELECT 1", primary=True)  # none is known now


async def test_standby_s_lag_is_its_heartbeat_s_age_and_a_primary_has_none() -> None:
    hosts = of(Answering(), Answering(standby=True))
    await hosts.probe()
    hosts.all[1].beat_at = hosts._clock.now() + 5 * SECOND
    assert hosts.lags() == {"postgres-1": 0, "postgres-2": 0}
    hosts.all[1].beat_at = hosts._clock.now() - 5 * SECOND
    assert 5 <= hosts.lags()["postgres-2"] < 60


async def test_store_reads_rows_behind_the_present_one() -> None:
    record = [CODE, 2, 4, "S.004", "G99.01.01", NOON, *[None] * 6, "[]", 0, *[None] * 3, "[]", 0, 0, False]
    present = {"as_of": NOON, "horizon": 77, "epoch": 3, "standby": True}

    class Rows:
        asked: ClassVar[list[Any]] = []
        row: Any = None

        async def ask(self, *asked: Any, primary: bool) -> list[Any]:
            self.asked.append((*asked, primary))
            return [present, self.row]

    class Row(list[Any]):
        def __getitem__(self, key: Any) -> Any:
            return {"code": CODE, "version": 2}[key] if isinstance(key, str) else super().__getitem__(key)

    rows = Rows()
    rows.row = Row([None] * 6 + record)
    store = Store(cast(Hosts, rows))
    loaded = await store.dossiers([CODE])
    ((name, (version, body)),) = loaded.found.items()
    assert (name, version, unpack(body).submitted_at) == (CODE, 2, NOON)
    assert (loaded.as_of, loaded.epoch, loaded.horizon, loaded.standby) == (microseconds(NOON), 3, 77, True)
    rows.row = {"number": "01234/2026/99901", "code": CODE, "version": 5}
    bound = await store.numbers(["01234/2026/99901"], primary=True)
    assert bound.found == {"01234/2026/99901": (5, CODE.encode())}
    assert rows.asked == [(DOSSIERS, [CODE], False), (NUMBERS, ["01234/2026/99901"], True)]
