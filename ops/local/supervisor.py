"""Supervises the servers and processes of a local run: lock, start, restart and stop.

A Supervisor is used in a `with` statement and stops its members in reverse order, however the block ends. After
`kill -9` the reaper stops them.
"""

import http.client
import json
import os
import select
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, Self, TypeVar
from urllib.parse import urlsplit

from ops.local import reaper as processes
from ops.local.accounts import private, write_private
from ops.local.cannot_start import CannotStart, sentences
from ops.local.ports import give_ports_back
from ops.local.reaper import Reaper
from ops.local.servers import Lock, last_lines

Say = Callable[[str], None]

POLL_SECONDS = 0.05
# Long, because six processes may be starting concurrently on two busy cores.
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
RESTART_PAUSE_SECONDS = 1.0
RESTARTS_IN_A_ROW = 3
# After being ready for this long, a member's count of restarts starts at zero again.
QUIET_SECONDS = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STANDARD_INPUT = 0


class StopAsked(Exception):
    """A stop signal came during a wait. Leaving the supervisor's block suppresses it."""


class Supervisable(Protocol):
    """What a supervisor can manage: a service's process or a local server."""

    @property
    def name(self) -> str: ...

    @property
    def log_path(self) -> Path: ...

    @property
    def alive(self) -> bool: ...

    def restart(self) -> None: ...

    def stop(self) -> None: ...


AnyMember = TypeVar("AnyMember", bound=Supervisable)


@dataclass(frozen=True)
class Supervised:
    """A process to run. `environ` is added to our environment; `ready_url` answers 200 once it is ready."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    ready_url: str
    log_path: Path


@dataclass(frozen=True)
class Errand:
    """A command that is run again and again: at the start, then `every` so many seconds."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    log_path: Path
    every: float


class RunningService:
    """A service's process. It has its own session, so that Ctrl-C reaches only its supervisor."""

    def __init__(self, service: Supervised | Errand, reaper: Reaper, check: Callable[[], None]) -> None:
        self.name = service.name
        self.log_path = service.log_path
        self._service = service
        self._ready_url = service.ready_url if isinstance(service, Supervised) else ""
        self._reaper = reaper
        self._check = check
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Starts the process without waiting for it."""
        with sentences(self.name, self.log_path):
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log_path, "ab", opener=private) as log:
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    self._service.argv,
                    env={**os.environ, **self._service.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._reaper.watch(self._process.pid, signal.SIGTERM)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(self._ready_url):
            self._check()
            if not self.alive:
                raise CannotStart(f"{self.name} ended while it started: {self._last_lines()}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} was not ready within {READY_SECONDS:.0f} s: {self._last_lines()}")
            time.sleep(POLL_SECONDS)

    def restart(self) -> None:
        self.stop()
        self.launch()
        self.wait_until_ready()

    def stop(self) -> None:
        """Stops the process; kills it after STOP_SECONDS. Safe to call twice, and before launch()."""
        if self._process is None:
            return
        # Not reaped yet, so the pid is still the process's own.
        if self.alive and (seen := processes.look(self._process.pid)) is not None:
            processes.end({seen: signal.SIGTERM}, STOP_SECONDS)
        self._process.wait()
        self._reaper.forget(self._process.pid)
        self._process = None

    def ended(self) -> int | None:
        """The exit status, once, when the process has ended by itself; None otherwise."""
        if self._process is None or self._process.poll() is None:
            return None
        self._reaper.forget(self._process.pid)
        status, self._process = self._process.returncode, None
        return status

    def _last_lines(self) -> str:
        return last_lines(self.log_path, self._log_start)


def _answers(url: str) -> bool:
    # http.client and not urllib, which would use a proxy set in the environment.
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass
class _Repeated:
    running: RunningService
    every: float
    due: float = 0.0


@dataclass
class _Restarts:
    in_a_row: int = 0
    ready_since: float = 0.0


class Supervisor:
    """Holds a directory's lock, handles stop signals, and manages members in the order they were added."""

    def __init__(self, directory: Path, say: Say) -> None:
        self._directory = directory.resolve()
        self._say_aloud = say
        self._stop_asked = False
        self._has_terminal = os.isatty(_STANDARD_INPUT)
        self._members: list[Supervisable] = []
        self._errands: list[_Repeated] = []
        self._restarts: defaultdict[str, _Restarts] = defaultdict(_Restarts)
        self._undo = ExitStack()
        self.reaper: Reaper

    def __enter__(self) -> Self:
        """Raises CannotStart if another run holds the directory; waits for the remains of a killed one."""
        with ExitStack() as undo:
            lock = undo.enter_context(_held(self._directory))
            undo.callback((self._directory / "up.json").unlink, missing_ok=True)
            undo.enter_context(self._signals_noted())
            # The reaper inherits the lock: after `kill -9` it is held until the last process has ended.
            self.reaper = undo.enter_context(Reaper(keep=[lock.descriptor]))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._undo.close()
        return isinstance(error, StopAsked)

    @property
    def stopping(self) -> bool:
        """Whether a signal has come or the terminal was closed."""
        return self._stop_asked or (self._has_terminal and _hung_up())

    def add(self, member: AnyMember) -> AnyMember:
        """Adds a running member: it is restarted if it dies, and stopped with the supervisor."""
        self._members.append(member)
        self._undo.callback(member.stop)
        return member

    def start(self, *services: Supervised) -> None:
        """Starts the services concurrently and returns when all are ready. Raises CannotStart."""
        running = [self.add(RunningService(service, self.reaper, self.check)) for service in services]
        for service in running:
            service.launch()
        for service in running:
            service.wait_until_ready()

    def repeat(self, errand: Errand) -> None:
        """Runs the command from now on while `run` lasts, never twice at a time. One that fails is told, no more."""
        running = RunningService(errand, self.reaper, self.check)
        self._undo.callback(running.stop)
        self._errands.append(_Repeated(running, errand.every))

    def run(self) -> None:
        """Restarts dead members until a stop is requested. Raises CannotStart after too many restarts of one."""
        while not self.stopping:
            for member in self._members:
                if not member.alive:
                    self._revive(member)
            for errand in self._errands:
                self._look_after(errand)
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raises StopAsked if a stop was requested; for long steps between members, such as a migration."""
        if self.stopping:
            raise StopAsked

    def say(self, text: str) -> None:
        # A closed terminal or pipe must not prevent stopping the members.
        with suppress(OSError):
            self._say_aloud(text)

    def _look_after(self, errand: "_Repeated") -> None:
        if errand.running.ended():
            self.say(f"{errand.running.name} failed and is tried again later; its log is {errand.running.log_path}.")
        if not errand.running.alive and time.monotonic() >= errand.due:
            errand.due = time.monotonic() + errand.every
            errand.running.launch()

    def _revive(self, member: Supervisable) -> None:
        restarts = self._restarts[member.name]
        if restarts.ready_since and time.monotonic() - restarts.ready_since > QUIET_SECONDS:
            restarts.in_a_row = 0
        restarts.in_a_row += 1
        if restarts.in_a_row > RESTARTS_IN_A_ROW:
            raise CannotStart(f"{member.name} does not stay up; its log is {member.log_path}.")
        self.say(f"{member.name} ended unexpectedly and is started again; its log is {member.log_path}.")
        self._pause(RESTART_PAUSE_SECONDS)
        try:
            member.restart()
        except CannotStart as error:
            restarts.ready_since = 0.0
            self.say(str(error))
        else:
            restarts.ready_since = time.monotonic()
            self.say(f"{member.name} is running again.")

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            time.sleep(POLL_SECONDS)

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Signals set a flag instead of raising, so that none interrupts between starting and watching a process."""
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._stop_asked = True


def _hung_up() -> bool:
    """Whether our terminal was closed. The kernel signals only the session's leader: under `ssh -t host make up` that
    is make, which waits for us and forwards nothing."""
    poller = select.poll()
    poller.register(_STANDARD_INPUT, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poller.poll(0))


@contextmanager
def _held(directory: Path) -> Iterator[Lock]:
    directory.mkdir(parents=True, exist_ok=True)
    lock = Lock(directory / "lock")
    try:
        if not lock.take(2 * STOP_SECONDS):
            holder = lock.holder()
            process = f" as process {holder.pid}" if holder is not None else ""
            raise CannotStart(f"It is already running in {directory}{process}; see {directory / 'up.json'}.")
        lock.sign(os.getpid())
        yield lock
    finally:
        give_ports_back()  # before the lock, so that the next run gets the same ports
        lock.close()


def stop_running(directory: Path, say: Say, *, patience: float = 120.0) -> bool:
    """Stops the run that holds this directory, and waits. False if it has not ended after `patience` seconds."""
    path = directory / "lock"
    if not path.exists():
        say(f"Nothing is running in {directory}.")
        return True
    lock = Lock(path)
    try:
        return _stop_holder(lock, directory, say, patience)
    finally:
        lock.close()


def _stop_holder(lock: Lock, directory: Path, say: Say, patience: float) -> bool:
    if lock.take(patience):
        say(f"Nothing is running in {directory}.")
        return True
    if (holder := lock.holder()) is None:
        say(f"Processes left by a run in {directory} have not ended within {patience:.0f} s.")
        return False
    processes.send([holder], signal.SIGTERM)
    deadline = time.monotonic() + patience
    while not lock.take(0):
        if time.monotonic() > deadline:
            say(f"Process {holder.pid}, which runs in {directory}, has not ended within {patience:.0f} s.")
            return False
        time.sleep(POLL_SECONDS)
    say(f"Stopped what was running in {directory}.")
    return True


def write_up_file(directory: Path, mapping: Mapping[str, object]) -> None:
    """Writes `up.json`: what runs where, for programs. It contains secrets and exists only during the run."""
    write_private(directory / "up.json", json.dumps(mapping, indent=2, ensure_ascii=False) + "\n")
