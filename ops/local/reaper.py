"""Ends what a process started, in whatever way that process itself ended.

A guardian is a second, very small process at the reading end of a pipe. Only its owner can write to that
pipe, so it closes when the owner is gone, `kill -9` included, and then everything on the guardian's list is
ended. This file is also the guardian's program: it runs with the standard library alone.
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
# These are for the owner to answer; the guardian ends when the owner has.
DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Process(NamedTuple):
    """A process as the system shows it. A pid alone may be given out again, with its start time it is not."""

    pid: int
    parent: int
    state: str
    started: str


class Guardian:
    """The owner's end. Leaving it ends whatever is still watched, as the owner's own death would."""

    def __init__(self, *, patience: float = 10.0, keep: Sequence[int] = ()) -> None:
        """`keep` names file descriptors, a lock's perhaps, held open until everything watched has ended."""
        self._patience = patience
        reading, self._pipe = os.pipe()
        # Inherited by the guardian, so it is deaf from its first moment, before it could say so itself.
        unmasked = signal.pthread_sigmask(signal.SIG_BLOCK, DEAF_TO)
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
        """From now on `pid` gets this signal when the owner is gone. BrokenPipeError if the guardian is."""
        os.write(self._pipe, b"watch %d %d\n" % (pid, number))

    def forget(self, pid: int) -> None:
        """Safe to call twice, and after the guardian is gone."""
        with suppress(OSError):
            os.write(self._pipe, b"forget %d\n" % pid)

    def close(self) -> None:
        """Returns when everything watched has ended."""
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
    # A started program never inherits the pipe, but a fork does, and would hold it open for a dead owner.
    while _writing_ends:
        os.close(_writing_ends.pop())


os.register_at_fork(after_in_child=_close_in_fork)


def look(pid: int) -> Process | None:
    """The living process with this pid. A zombie is dead, though in a container it may never be collected."""
    found = _read_stat(pid) if _HAS_PROC else next(iter(_ask_ps("-p", str(pid))), None)
    return found if found is not None and found.state not in NO_LONGER_ALIVE else None


def is_alive(process: Process) -> bool:
    now = look(process.pid)
    return now is not None and now.started == process.started


def family(process: Process) -> list[Process]:
    """A process and its descendants, parents first; empty when the process is gone."""
    everyone = list(_everyone())
    found = [p for p in everyone if (p.pid, p.started) == (process.pid, process.started)]
    for member in found:  # grows while it is read
        found.extend(p for p in everyone if p.parent == member.pid)
    return found


def freeze(process: Process) -> list[Process]:
    """Stops a process and all its descendants, and returns them.

    Listing and stopping is repeated until a fresh list shows everybody stopped: a signal takes a moment to
    arrive, and until then a parent may have another child.
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
    """Ends a process and its descendants at once, and returns when they are gone."""
    members = freeze(process)
    send(members, signal.SIGKILL)
    _wait_until_gone(members, KILL_SECONDS)


def end(asked: Mapping[Process, signal.Signals], patience: float) -> None:
    """Asks each process to end by its signal; those still there after `patience` are killed with family."""
    for process, number in asked.items():
        send([process], number)
        # A stopped process hears nothing but this; neither would its children.
        thaw(process)
    for process in _wait_until_gone(asked, patience):
        kill(process)


def send(processes: Iterable[Process], number: signal.Signals) -> None:
    for process in processes:
        # One that is just leaving, or is not ours to end, must not keep the others from hearing it.
        with suppress(OSError):
            if is_alive(process):
                os.kill(process.pid, number)


def _wait_until_gone(processes: Iterable[Process], patience: float) -> list[Process]:
    """Returns those that are still there."""
    deadline = time.monotonic() + patience
    left = [p for p in processes if is_alive(p)]
    while left and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        left = [p for p in left if is_alive(p)]
    return left


_HAS_PROC = os.path.exists("/proc/self/stat")


def _everyone() -> Iterable[Process]:
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
    # The name in parentheses may itself hold spaces and parentheses; nothing after the last one does.
    fields = text[text.rindex(b")") + 2 :].decode().split()
    return Process(pid, parent=int(fields[1]), state=fields[0], started=fields[19])


def _ask_ps(*which: str) -> list[Process]:
    """Where there is no /proc, as on macOS."""
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
    """The guardian's whole life: obeys until the orders end, then ends what is on its list."""
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
