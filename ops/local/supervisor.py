"""Everything one machine runs, from the first lock to the last stop.

A Stack is one `with` statement: what it starts last it stops first, however it is left. The only way
around that is `kill -9`, and then the guardian does the stopping.
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
from ops.local.reaper import Guardian
from ops.local.servers import Lock, last_lines

Say = Callable[[str], None]

POLL_SECONDS = 0.05
# Generous: six processes may be starting at once on two cores that have other things to do.
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
RESTART_PAUSE_SECONDS = 1.0
RESTARTS_IN_A_ROW = 3
# A member that has been ready for this long has earned a full count of restarts again.
QUIET_SECONDS = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STANDARD_INPUT = 0


class StopAsked(Exception):
    """A signal came while something was being waited for. Leaving the stack swallows it."""


class Member(Protocol):
    """What a stack can look after: a service of its own, or one of the embedded servers."""

    @property
    def name(self) -> str: ...

    @property
    def log_path(self) -> Path: ...

    @property
    def alive(self) -> bool: ...

    def restart(self) -> None: ...

    def stop(self) -> None: ...


AnyMember = TypeVar("AnyMember", bound=Member)


@dataclass(frozen=True)
class Service:
    """A process to run. `environ` is added to our environment; `ready_url` answers 200 once it is of use."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    ready_url: str
    log_path: Path


class RunningService:
    """One service's process. It has a session of its own, so Ctrl-C reaches its supervisor alone."""

    def __init__(self, service: Service, guardian: Guardian, check: Callable[[], None]) -> None:
        self.name = service.name
        self.log_path = service.log_path
        self._service = service
        self._guardian = guardian
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
            self._guardian.watch(self._process.pid, signal.SIGTERM)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(self._service.ready_url):
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
        """Safe to call twice, and before launch()."""
        if self._process is None:
            return
        # Not yet collected, so the pid is still the process's own.
        if self.alive and (seen := processes.look(self._process.pid)) is not None:
            processes.end({seen: signal.SIGTERM}, STOP_SECONDS)
        self._process.wait()
        self._guardian.forget(self._process.pid)
        self._process = None

    def _last_lines(self) -> str:
        return last_lines(self.log_path, self._log_start)


def _answers(url: str) -> bool:
    # http.client and not urllib: no proxy of the environment's stands between us and our own machine.
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
class _Restarts:
    in_a_row: int = 0
    ready_since: float = 0.0


class Supervisor:
    """A directory's lock, the stop signals, a guardian, and members in the order in which they came."""

    def __init__(self, directory: Path, say: Say) -> None:
        self._directory = directory.resolve()
        self._say_aloud = say
        self._stop_asked = False
        self._has_terminal = os.isatty(_STANDARD_INPUT)
        self._members: list[Member] = []
        self._restarts: defaultdict[str, _Restarts] = defaultdict(_Restarts)
        self._undo = ExitStack()
        self.guardian: Guardian

    def __enter__(self) -> Self:
        """CannotStart if the directory's stack runs already; the remains of a killed one are waited for."""
        with ExitStack() as undo:
            lock = undo.enter_context(_held(self._directory))
            undo.callback((self._directory / "up.json").unlink, missing_ok=True)
            undo.enter_context(self._signals_noted())
            # The guardian shares the lock: after our sudden death it is free once the last process is gone.
            self.guardian = undo.enter_context(Guardian(keep=[lock.descriptor]))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._undo.close()
        return isinstance(error, StopAsked)

    @property
    def stopping(self) -> bool:
        """A signal or the terminal's end has asked for ours. What is under way finishes, or raises StopAsked."""
        return self._stop_asked or (self._has_terminal and _hung_up())

    def add(self, member: AnyMember) -> AnyMember:
        """Takes over something that runs: it is restarted if it dies, and stopped when its turn comes."""
        self._members.append(member)
        self._undo.callback(member.stop)
        return member

    def start(self, *services: Service) -> None:
        """Starts them together and returns when every one is ready."""
        running = [self.add(RunningService(service, self.guardian, self.check)) for service in services]
        for service in running:
            service.launch()
        for service in running:
            service.wait_until_ready()

    def run(self) -> None:
        """Looks after the members until a stop is asked for. CannotStart if one cannot be kept alive."""
        while not self.stopping:
            for member in self._members:
                if not member.alive:
                    self._revive(member)
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """For long steps between two members, a migration perhaps: raises StopAsked if a signal has come."""
        if self.stopping:
            raise StopAsked

    def say(self, text: str) -> None:
        # A terminal that was closed, or a pipe nobody reads, must not keep the rest from being stopped.
        with suppress(OSError):
            self._say_aloud(text)

    def _revive(self, member: Member) -> None:
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
        """A signal is noted, not raised: nothing is interrupted halfway between starting and watching."""
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
    """Whether our terminal was closed. The kernel tells the session's leader only: under `ssh -t host make up` that is
    make, which waits for us and passes nothing on."""
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
        give_ports_back()  # whoever takes the lock next is to have the same ones
        lock.close()


def stop_running(directory: Path, say: Say, *, patience: float = 120.0) -> bool:
    """Asks the stack that holds this directory to stop, and waits. False if it would not."""
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
        say(f"What is left of a run in {directory} does not end.")
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
    """What runs where, for programs: `up.json`, which holds secrets and exists only while the stack does."""
    write_private(directory / "up.json", json.dumps(mapping, indent=2, ensure_ascii=False) + "\n")
