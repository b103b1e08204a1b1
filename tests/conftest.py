"""Real servers for the tests: one PostgreSQL and one Valkey for the session, a database of its own for each test."""

import asyncio
import gc
import itertools
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis.asyncio
from aiohttp import web_app
from hypothesis import HealthCheck, settings

from intake.books import ledger
from lookup import redis_users, schema
from lookup.catalogue import load
from lookup.reading import shedding
from lookup.reading.shedding import Load
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.local.valkey import ValkeyServer
from ops.observe import logs
from ops.stores.postgres import connect_directly
from tests import declared, programs
from tests.places import in_memory
from tests.programs import pytest_runtest_makereport, pytest_terminal_summary  # noqa: F401 - pytest's hooks

NO_FSYNC = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "max_wal_size": "256MB"}
FAST = NO_FSYNC | {"synchronous_commit": "off"}
ROLES = (
    *("hoso24_owner", "hoso24_writer", "hoso24_relay", "hoso24_reader"),
    *("hoso24_notary", "hoso24_auditor", "hoso24_archivist", "hoso24_webhooks"),
    *("hoso24_desk", "hoso24_notices", "hoso24_figures"),
)
KEY_SECRETS = "1:" + "5a" * 32
SEAL_KEYS = "t1:" + "5e" * 32
WEBHOOK_SECRET = "4b" * 32
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts the tests in the background has SIGINT ignored, and every process they start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes says how busy the machine is.
    fresh = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("fresh", fresh, max_examples=2_000)
    # The same examples each time: a change that fails has failed by itself. `make proof` tries others, and more.
    settings.register_profile("seeded", fresh, derandomize=True, database=None)
    if config.getoption("--hypothesis-profile", None) is None:
        settings.load_profile("seeded")


LONGEST = (
    *("test_up.py", "test_gameday.py", "test_restore.py", "test_coherence.py", "test_gameday_stage.py"),
    *("test_secrets.py", "test_dashboards.py", "test_national.py"),
)
"""Files that take half a minute or more: where several run at a time these begin, so that none is left for the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "reaper" in getattr(item, "fixturenames", ()):  # whatever starts a server has it ended by the reaper
            item.add_marker("servers")
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is there before the first test stays: looking through it each time would cost more than the tests leave."""
    gc.collect()
    gc.freeze()


_start = subprocess.Popen.__init__


def _start_unmarked(process: "subprocess.Popen[Any]", command: Any, *others: Any, **more: Any) -> None:
    if command[0] != "git":  # it answers within milliseconds
        pytest.fail(f"{command!r:.120} is started by a test that is not marked `servers`, which `make check` would run")
    _start(process, command, *others, **more)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test without the marker `servers` cannot start a process."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("servers") is None:
            patch.setattr(subprocess.Popen, "__init__", _start_unmarked)
        return (yield)


@pytest.fixture(autouse=True)
def _no_request_yet() -> Iterator[None]:
    """A test begins without the id of a request that another test answered in the same context."""
    before = logs.request_id.set(None)
    yield
    logs.request_id.reset(before)


@pytest.fixture(autouse=True)
def _nothing_is_left_to_later_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """The parts of a process hold one another, and a lookup counts in 16 MB: what a test has started goes with it.

    aiohttp would keep the last thousand applications, for the chains of their middlewares.
    """
    yield
    web_app._cached_build_middleware.cache_clear()
    if "reaper" in request.fixturenames:
        gc.collect()


@pytest.fixture(autouse=True)
def undeclared(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fails a test in which an endpoint answers a refusal or a content that it does not declare; lists what it did."""
    found = declared.watched(monkeypatch)
    yield found
    if found:
        pytest.fail("\n".join(dict.fromkeys(found)))


@pytest.fixture
def program() -> Callable[[str], str]:
    """Tests of the whole system ask this for programs, since they import nothing of ours."""
    return programs.program


@pytest.fixture
def garbage() -> Iterator[Callable[[], int]]:
    """How many objects that hold one another have been left since it was asked last; it alone clears them away."""
    gc.collect()
    gc.disable()
    yield gc.collect
    gc.enable()


@pytest.fixture
def nothing_is_shed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late loop refuses what it would have to read; here it reads it, however slow the machine is."""
    monkeypatch.setattr(shedding, "LATE", dict.fromkeys(Load, float("inf")))
    monkeypatch.setattr(shedding, "WAIT", dict.fromkeys(Load, float("inf")))


@pytest.fixture
def one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dossiers are numbered on one day in Vietnam, whatever the clock says meanwhile."""
    now = ledger.TRY_LOCK.replace("now()", "timestamptz '2026-11-30 05:00Z'")
    assert now != ledger.TRY_LOCK
    monkeypatch.setattr(ledger, "TRY_LOCK", now)


@dataclass(frozen=True)
class Database:
    """One migrated database with the sample catalogue in it, and its URL for each role."""

    name: str
    admin_url: str

    def url(self, role: str) -> str:
        return role_url(self.admin_url, role, self.name)

    @property
    def owner_url(self) -> str:
        return self.url("hoso24_owner")

    @property
    def writer_url(self) -> str:
        return self.url("hoso24_writer")

    @property
    def relay_url(self) -> str:
        return self.url("hoso24_relay")

    @property
    def reader_url(self) -> str:
        return self.url("hoso24_reader")

    @property
    def notary_url(self) -> str:
        return self.url("hoso24_notary")

    @property
    def auditor_url(self) -> str:
        return self.url("hoso24_auditor")

    @property
    def archivist_url(self) -> str:
        return self.url("hoso24_archivist")

    @property
    def webhooks_url(self) -> str:
        return self.url("hoso24_webhooks")

    @property
    def desk_url(self) -> str:
        return self.url("hoso24_desk")


def role_url(admin_url: str, role: str, database: str) -> str:
    """The server's URL for one role; in tests a role's password is its name."""
    parts = urlsplit(admin_url)
    return urlunsplit(parts._replace(netloc=f"{role}:{role}@{parts.hostname}:{parts.port}", path=f"/{database}"))


async def prepare(admin_url: str, name: str) -> Database:
    """Make the roles and one migrated database with the sample catalogue."""
    database = Database(name, admin_url)
    await schema.create_roles(admin_url, *(database.url(role) for role in ROLES))
    await schema.migrate(database.owner_url)
    connection = await connect_directly(lambda: database.owner_url)
    try:
        await load.install_sample(connection)
    finally:
        await connection.close()
    return database


@pytest.fixture(scope="session")
def reaper() -> Iterator[Reaper]:
    """Ends the session's servers even if the tests are killed."""
    with Reaper() as reaper:
        yield reaper


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="hoso24-tests-", dir=in_memory()))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(server_directory: Path, reaper: Reaper) -> Iterator[PostgresServer]:
    with PostgresServer.start(server_directory / "postgres", settings=FAST, reaper=reaper) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(server_directory: Path, reaper: Reaper) -> Iterator[ValkeyServer]:
    users = dict.fromkeys(redis_users.lines({user: user for user in redis_users.RIGHTS}), "")
    with ValkeyServer.start(server_directory / "redis", settings=users, reaper=reaper) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> Database:
    return asyncio.run(prepare(postgres_server.admin_url, "template_hoso24"))


@pytest.fixture
async def database(template: Database) -> AsyncIterator[Database]:
    """A fresh database for this test."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(template.admin_url)
    try:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template.name} OWNER hoso24_owner STRATEGY file_copy")
        await admin.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")  # a template's is not taken along
        yield Database(name, template.admin_url)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture
async def redis_url(redis_server: ValkeyServer) -> str:
    """An empty Valkey."""
    async with redis.asyncio.Redis.from_url(redis_server.url, protocol=2) as client:
        await client.flushall()
    return redis_server.url


@pytest.fixture
def redis_urls(redis_url: str) -> dict[str, str]:
    """The same Valkey for each of its users; in tests a user's password is its name."""
    place = redis_url.rpartition("@")[2]
    return {user: f"redis://{user}:{user}@{place}" for user in redis_users.RIGHTS}


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Any]:
    """A connection as the owner, who may do what no role of the service may."""
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.writer_url)
    yield connection
    await connection.close()


@pytest.fixture
def fragile(reaper: Reaper) -> Iterator[Callable[..., Any]]:
    """Servers of this test's own, to be stopped, killed and paused: `postgres, redis = fragile()`."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-fragile-", dir=in_memory()))
    directory.chmod(0o755)
    started: list[Any] = []

    def start(**redis_settings: str) -> tuple[PostgresServer, ValkeyServer]:
        # Commits are synchronous: what a killed server has acknowledged must be there when it is back.
        started.append(PostgresServer.start(directory / "postgres", settings=NO_FSYNC, reaper=reaper))
        started.append(ValkeyServer.start(directory / "redis", settings=redis_settings, reaper=reaper))
        return started[0], started[1]

    yield start
    for server in reversed(started):
        server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def house(database: Database, redis_url: str) -> AsyncIterator[Any]:
    """Lookup, intake and relay on this test's database."""
    from tests.house import open_house

    async with open_house(database, redis_url) as house:
        yield house
