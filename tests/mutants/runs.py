"""Runs of pytest that start warm: a worker with third-party packages and servers ready forks one for each fault.

Each worker has a copy of the tree, so that what its tests start as processes of their own has the fault in it as well.
"""

import asyncio
import contextlib
import gc
import importlib
import itertools
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import psutil
import pytest

WARM = "aiohttp asyncpg cachebox click holidays hypothesis.stateful jinja2 msgspec prometheus_client pytest_asyncio"
WARM += " pytest_timeout redis.asyncio rich.progress segno uvloop opentelemetry.sdk.trace.export yaml"
WARM += " opentelemetry.exporter.otlp.proto.http.trace_exporter"
OURS = ("lookup", "intake", "ops", "tests", "loadtests", "hoso24")
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200"}
SETTINGS |= {"max_wal_size": "256MB"}
NOT_COPIED = (".git", ".venv*", ".*_cache", ".hypothesis", ".hoso24", ".mutants", "node_modules", "__pycache__")
TEMPLATE = "template_hoso24"
PLUGINS = "-p pytest_asyncio.plugin -p pytest_timeout -p _hypothesis_pytestplugin"
BROKEN = (3, 70)
"""Statuses of a fork in which pytest itself failed."""
OFTEN = 200
SOFT = 0.75
"""Share of a fault's seconds after which no further test begins: what ends it later is a test that hangs."""
Say = Callable[[dict[str, Any]], None]


def undisturbed(pid: int | str = "self") -> float:
    """Seconds on a clock that stands still while the process could run and other programs have the processors."""
    with contextlib.suppress(OSError):
        return time.monotonic() - int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return time.monotonic()


class Plugin:
    """What pytest is told in a fork: the servers, which tests, in which order, until when. It says what it does."""

    def __init__(self, say: Say, servers: dict[str, Any], job: dict[str, Any]) -> None:
        self._say = say
        self._servers = servers
        self._order = {test: place for place, test in enumerate(job.get("tests", ()))}
        self._seconds = job.get("expected", [])
        self._until = undisturbed() + job["seconds"] * SOFT
        self._core = {str(Path(path).resolve()): path for path in job.get("core", ())}
        self._lines: dict[str, set[int]] = {}
        self._failed = self._skipped = False

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        # The same examples each time, and none made smaller: that one fails is all that is asked.
        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings(), phases=phases, derandomize=True, database=None)
        settings.load_profile("mutants")

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: pytest.FixtureRequest) -> Any:
        if fixturedef.func.__module__ != "tests.conftest":
            return None
        conftest: Any = sys.modules["tests.conftest"]
        value = self._servers.get(fixturedef.argname)
        if fixturedef.argname == "template":
            conftest._numbers = itertools.count(os.getpid() * 10_000)
            value = conftest.Database(TEMPLATE, self._servers["postgres_server"].admin_url)
        if value is not None:
            fixturedef.cached_result = (value, fixturedef.cache_key(request), None)
        return value

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self._order:
            items[:] = sorted((i for i in items if i.nodeid in self._order), key=lambda i: self._order[i.nodeid])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if self._order:
            if undisturbed() + self._seconds[self._order[item.nodeid]] > self._until:
                item.session.shouldstop = "out of time"
                return True
            self._say({"begins": item.nodeid})
        return None

    def pytest_runtest_logstart(self) -> None:
        self._failed = self._skipped = False
        self._lines = {}
        self._began = undisturbed()
        if self._core:
            threading.settrace(self._tracer())
            sys.settrace(self._tracer())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed
        self._skipped |= report.skipped
        if report.failed and self._order:
            self._say({"failed": report.nodeid})

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        sys.settrace(None)
        threading.settrace(None)
        if self._core and not self._skipped:
            seconds = round(undisturbed() - self._began, 3)
            lines = {path: sorted(numbers) for path, numbers in self._lines.items()}
            self._say({"test": nodeid, "seconds": seconds, "failed": self._failed, "lines": lines})

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if self._core and "reaper" in getattr(item, "fixturenames", ()):  # all servers are watched by it
            self._say({"needs_server": item.nodeid})

    def _tracer(self) -> Any:
        """For sys.settrace: notes the lines of the core. What was called very often shows nothing new any more."""
        notes: dict[CodeType, Any] = {}
        calls: Counter[CodeType] = Counter()

        def called(frame: FrameType, _event: str, _value: Any) -> Any:
            code = frame.f_code
            if code not in notes:
                path = self._core.get(code.co_filename)
                notes[code] = _noter(self._lines.setdefault(path, set()).add) if path else None
            if notes[code]:
                calls[code] += 1
                if calls[code] > OFTEN:
                    notes[code] = None
            return notes[code]

        return called


def _noter(add: Callable[[int], None]) -> Any:
    def note(frame: FrameType, event: str, _value: Any) -> Any:
        if event == "line":
            add(frame.f_lineno)
        return note

    return note


def work(pipe: Connection, root: Path) -> None:
    """A worker: takes a job from the pipe, sends what came of it, until the pipe ends. Its tree is a copy of `root`."""
    for name in [name for name in sys.modules if name.split(".")[0] in OURS]:
        del sys.modules[name]
    directory = Path(tempfile.mkdtemp(prefix="hoso24-mutants-"))
    directory.chmod(0o755)
    tree = directory / "tree"
    try:
        shutil.copytree(root, tree, ignore=shutil.ignore_patterns(*NOT_COPIED))
        os.chdir(tree)
        sys.path[:] = [str(tree), *(entry for entry in sys.path if entry and Path(entry).resolve() != root)]
        os.environ["PYTHONPATH"] = str(tree)
        for package in WARM.split():
            importlib.import_module(package)
        gc.freeze()
        with _servers() as servers, contextlib.suppress(EOFError, KeyboardInterrupt):
            prepared = _forked({"seconds": 60, "prepare": True}, servers)
            assert prepared["status"] == 0, (directory / "last-run.txt").read_text()
            clock = itertools.count(int(time.time()))
            while job := pipe.recv():
                with _planted(job, clock):
                    pipe.send(_staged(job, servers))
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _servers() -> Iterator[dict[str, Any]]:
    from ops.local.postgres import PostgresServer
    from ops.local.reaper import Reaper
    from ops.local.valkey import ValkeyServer
    from tests.places import in_memory

    with (
        tempfile.TemporaryDirectory(prefix="hoso24-mutants-", dir=in_memory()) as place,
        Reaper() as reaper,
        PostgresServer.start(_entered(place) / "postgres", settings=SETTINGS, reaper=reaper) as postgres,
        ValkeyServer.start(Path(place) / "redis", reaper=reaper) as redis,
    ):
        yield {"postgres_server": postgres, "redis_server": redis}


def _entered(place: str) -> Path:
    """The directory, which the account of servers that root starts may enter."""
    Path(place).chmod(0o755)
    return Path(place)


@contextlib.contextmanager
def _planted(job: dict[str, Any], clock: Iterator[int]) -> Iterator[None]:
    """The module has the job's text. No two texts have one time, by which Python knows whether it compiled this one."""
    if "path" not in job:
        yield
        return
    path = Path(job["path"])
    before = path.read_bytes()
    try:
        path.write_bytes(job["text"])
        os.utime(path, (now := next(clock), now))
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, (now := next(clock), now))


def _staged(job: dict[str, Any], servers: dict[str, Any]) -> dict[str, Any]:
    """The stages of the job until one does not end well, in the seconds of the job."""
    came: dict[str, Any] = {"said": [], "status": 0, "seconds": 0.0}
    for stage in job.get("stages", [{}]):
        done = _forked(job | stage | {"seconds": job["seconds"] - came["seconds"]}, servers)
        came = done | {"said": came["said"] + done["said"], "seconds": came["seconds"] + done["seconds"]}
        if came["status"] != 0:
            break
    return came


def _forked(job: dict[str, Any], servers: dict[str, Any]) -> dict[str, Any]:
    """Do the job in a fork. All it said, its exit status (None: it did not end in time), and how long it took."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _child(job, servers, writing)
        except BaseException:
            traceback.print_exc()
        os._exit(BROKEN[1])
    os.close(writing)
    began = undisturbed(child)
    said: list[dict[str, Any]] = []
    rest = b""
    status = None
    try:
        while status is None and undisturbed(child) - began < job["seconds"]:
            if select.select([reading], [], [], 0.5)[0]:
                read = os.read(reading, 1 << 16)
                *lines, rest = (rest + read).split(b"\n")
                said += map(json.loads, lines)
                status = said[-1].get("status") if said and read else BROKEN[1]
        seconds = round(undisturbed(child) - began, 2)
    finally:
        for process in psutil.Process(child).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    return {"said": said, "status": status, "seconds": seconds}


def _child(job: dict[str, Any], servers: dict[str, Any], writing: int) -> None:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream, name in ((0, os.devnull), (1, "../last-run.txt"), (2, "../last-run.txt")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if stream == 1 else os.O_APPEND)), stream)

    def say(message: dict[str, Any]) -> None:
        os.write(writing, json.dumps(message).encode() + b"\n")

    if "prepare" in job:
        conftest = importlib.import_module("tests.conftest")
        asyncio.run(conftest.prepare(servers["postgres_server"].admin_url, TEMPLATE))
        status = 0
    else:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        options = f"-q --tb=line -W ignore::pytest.PytestAssertRewriteWarning -p no:cacheprovider {PLUGINS}".split()
        options += ["-x"] if "tests" in job and "all" not in job else []
        status = int(pytest.main([*options, *job["files"]], plugins=[Plugin(say, servers, job)]))
    say({"status": status})
