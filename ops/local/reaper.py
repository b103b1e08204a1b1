"""Ends the processes that a process started, however that process itself ends.

A reaper is a small second process at the reading end of a pipe. Only its owner has the writing end, so the pipe
closes when the owner ends, also by `kill -9`, and then the reaper ends all processes on its list. This file is also
the reaper's program: it needs only the standard library.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

POLL_SECONDS = 0.02
KILL_SECONDS = 5.0
NO_LONGER_ALIVE = "ZX"
HELD = "TtZX"
# Only the owner handles these; the reaper ends after its owner.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process(NamedTuple):
    """A process as the system shows it. A pid may be reused; pid and start time together are unique."""

    pid: int
    parent: int
    state: str
    started: str


class Reaper:
    """The owner's end of the pipe. Leaving its block ends all watched processes, like the owner's death."""

    def __init__(self, *, patience: float = 10.0, keep: Sequence[int] = ()) -> None:
        """`keep`: file descriptors, such as a lock's, that stay open until all watched processes have ended."""
        self._patience = patience
        reading, self._pipe = os.pipe()
        # The reaper inherits the mask, so it ignores these signals from its start.
        unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(patience)],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                pass_fds=keep,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unmasked)
            os.close(reading)
        _writing_ends.add(self._pipe)

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, pid: int, number: signal.Signals) -> None:
        """Send `pid` this signal when the owner has ended. Raises BrokenPipeError if the reaper has ended."""
        os.write(self._pipe, b"watch %d %d\n" % (pid, number))

    def forget(self, pid: int) -> None:
        """Stop watching `pid`. Safe to call twice, and after the reaper has ended."""
        with suppress(OSError):
            os.write(self._pipe, b"forget %d\n" % pid)

    def close(self) -> None:
        """Ends all watched processes; returns when they have ended."""
        if self._pipe in _writing_ends:
            _writing_ends.remove(self._pipe)
            os.close(self._pipe)
            self._process.wait(self._patience + 2 * KILL_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_writing_ends: set[int] = set()


def _close_in_fork() -> None:
    # A started program does not inherit the pipe, but a fork does, and would keep it open after the owner's death.
    while _writing_ends:
        os.close(_writing_ends.pop())


os.register_at_fork(after_in_child=_close_in_fork)


def look(pid: int) -> Process | None:
    """The living process with this pid, or None. A zombie counts as dead: in a container it may never be reaped."""
    found = _read_stat(pid) if _HAS_PROC else next(iter(_ask_ps("-p", str(pid))), None)
    return found if found is not None and found.state not in NO_LONGER_ALIVE else None


def is_alive(process: Process) -> bool:
    now = look(process.pid)
    return now is not None and now.started == process.started


def family(process: Process) -> list[Process]:
    """A process and its descendants, parents first; empty when the process is gone."""
    every = list(_all_processes())
    found = [p for p in every if (p.pid, p.started) == (process.pid, process.started)]
    for member in found:  # grows while it is iterated
        found.extend(p for p in every if p.parent == member.pid)
    return found


def freeze(process: Process) -> list[Process]:
    """Stops a process and all its descendants, and returns them.

    Listing and stopping is repeated until a fresh list shows all of them stopped: until a signal arrives, a parent may
    start another child.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while True:
        members = family(process)
        moving = [p for p in members if p.state not in HELD]
        if not moving or time.monotonic() > deadline:
            return members
        send(moving, signal.SIGSTOP)
        time.sleep(0.001)


def thaw(process: Process) -> None:
    send(reversed(family(process)), signal.SIGCONT)


def kill(process: Process) -> None:
    """Kills a process and its descendants, and returns when they have ended."""
    members = freeze(process)
    send(members, signal.SIGKILL)
    _wait_until_gone(members, KILL_SECONDS)


def end(asked: Mapping[Process, signal.Signals], patience: float) -> None:
    """Sends each process its signal; those alive after `patience` seconds are killed with their descendants."""
    for process, number in asked.items():
        send([process], number)
        # A stopped process and its children handle no other signal than SIGCONT.
        thaw(process)
    for process in _wait_until_gone(asked, patience):
        kill(process)


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        # A process that is just ending, or not ours, must not keep the signal from the others.
        with suppress(OSError):
            if is_alive(process):
                os.kill(process.pid, number)


def _wait_until_gone(processes: Iterable[Process], patience: float) -> list[Process]:
    """Waits up to `patience` seconds; returns the processes still alive."""
    deadline = time.monotonic() + patience
    left = [p for p in processes if is_alive(p)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = [p for p in left if is_alive(p)]
    return left


_HAS_PROC = os.path.exists("/proc/self/stat")


def _all_processes() -> Iterable[Process]:
    if not _HAS_PROC:
        return _ask_ps("-A")
    found = (_read_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return (p for p in found if p is not None)


def _read_stat(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name in parentheses may contain spaces and parentheses; the fields after the last one do not.
    fields = text[text.rindex(b")") + 2 :].decode().split()
    return Process(pid, parent=int(fields[1]), state=fields[0], started=fields[19])


def _ask_ps(*which: str) -> list[Process]:
    """Processes by `ps`, for systems without /proc, such as macOS."""
    answer = subprocess.run(
        ["ps", *which, "-o", "pid=,ppid=,state=,lstart="],
        env={"PATH": os.defpath, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split(None, 3) for line in answer.stdout.splitlines())
    return [Process(int(pid), int(parent), state[0], started) for pid, parent, state, started in rows]


def keep_watch(orders: Iterable[bytes], patience: float) -> None:
    """The reaper's program: reads orders until they end, then ends the processes on its list."""
    watched: dict[int, tuple[Process, signal.Signals]] = {}
    for order in orders:
        verb, pid, *number = order.split()
        if verb == b"forget":
            watched.pop(int(pid), None)
        elif (process := look(int(pid))) is not None:
            watched[process.pid] = (process, signal.Signals(int(number[0])))
    end(dict(watched.values()), patience)


if __name__ == "__main__":
    keep_watch(sys.stdin.buffer, float(sys.argv[1]))
