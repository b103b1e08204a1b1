"""Processes on a core of their own, each ended by its pid however the block around it is left. Linux only.

A stop signal is raised where it finds us, once: a second Ctrl-C does not cut the clearing up short. While a process is
being started it waits, so that none is lost between its birth and the note of its pid.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from ops.local import ports

T = TypeVar("T")

SERVER_CORE, OTHER_CORE = 0, 1
"""The server under test has the first to itself; load, Postgres, Redis and the bench share the second."""

ROOT = Path(__file__).resolve().parents[2]
HOSO24 = (sys.executable, "-m", "hoso24")

PORTS = range(20_000, 32_000)
POLL_SECONDS = 0.02
STOP_SECONDS = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotMeasure(Exception):
    """Why there is nothing to measure, in one sentence."""


class _Stop:
    """The first stop signal; `held` while it has to wait."""

    def __init__(self) -> None:
        self.number = 0
        self.held = False

    def note(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number = number
            self.leave()

    def leave(self) -> None:
        if self.number and not self.held:
            raise SystemExit(128 + self.number)


_stop = _Stop()


def leave_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP are a SystemExit."""
    for number in STOP_SIGNALS:
        signal.signal(number, _stop.note)


async def until_told_to_stop(work: Coroutine[Any, Any, T]) -> T:
    """The result of this work. A stop signal cancels it, which ends its processes; raises CannotMeasure then."""
    task = asyncio.create_task(work)
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise CannotMeasure("Interrupted.") from None


@contextmanager
def started(
    argv: Sequence[str],
    *,
    core: int | None,
    log: Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output: int | None = None,
) -> Iterator["subprocess.Popen[str]"]:
    """A process on that core, or on all, for as long as the block runs; its output goes to `log`.

    It has a session of its own, so that a Ctrl-C is ours to answer.
    """
    with ExitStack() as undo, log.open("a") as file:
        _stop.held = True
        try:
            process = subprocess.Popen(
                [*_kept_on(core), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output or file,
                stderr=file,
                env={**surroundings(), **(environ or {})},
                cwd=cwd,
                text=True,
                start_new_session=True,
            )
            undo.callback(end, process)
        finally:
            _stop.held = False
        _stop.leave()
        yield process


def _kept_on(core: int | None) -> list[str]:
    # taskset becomes the process itself: the pid is the same.
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def end(process: "subprocess.Popen[str]") -> None:
    """Asks the process to stop; what does not is killed, with what is left of its session. Safe to call twice."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def surroundings() -> dict[str, str]:
    """Our environment without what would aim at other servers, or trace to them."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HOSO24_", "OTEL_", "PEER_"))}


async def spawned(
    *argv: str, log: Path, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> asyncio.subprocess.Process:
    """A process in a session of its own, on all cores; what it says is added to `log`."""
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env={**surroundings(), **(environ or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


async def stopped(process: asyncio.subprocess.Process, seconds: float = STOP_SECONDS) -> None:
    """Ask the process to stop, and kill it if it is still there after so many seconds."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def finished(*argv: str, environ: Mapping[str, str], seconds: float) -> tuple[int, str]:
    """Run it to its end: its exit status and all it said. Raises TimeoutError, and kills it, after so many seconds."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**surroundings(), **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


def wait_until(
    happened: Callable[[], bool], what: str, *, seconds: float, process: "subprocess.Popen[str]", log: Path
) -> None:
    """Returns as soon as it has happened. Raises CannotMeasure when the process ends first, or at the deadline."""
    deadline = time.monotonic() + seconds
    while not happened():
        if process.poll() is not None:
            raise CannotMeasure(f"{what} ended while it started: {_last_lines(log)}")
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{what} was not ready within {seconds:.0f} s: {_last_lines(log)}")
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """A port of the loopback address that is free at the moment, and was not given out before.

    It is none of those the system hands out, or some connection might have it before the server that it is for.
    """
    port = ports.free_port(random.choice(PORTS), avoid=_given)
    _given.add(port)
    return port


_given: set[int] = set()


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text("utf-8", "replace").strip().splitlines()[-4:]) or "it said nothing"
