import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ops.local.reaper import Process, Reaper, end, family, freeze, is_alive, keep_watch, kill, look, thaw

pytestmark = pytest.mark.servers

DEADLINE = 20.0

# An owner that starts one child and then waits to be killed. What it is to do besides comes in {extra}.
OWNER = """
import os, signal, subprocess, sys, time
from ops.local.reaper import Reaper
reaper = Reaper(patience=float(sys.argv[1]))
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
reaper.watch(child.pid, signal.SIGINT)
{extra}
print(child.pid, reaper.pid, flush=True)
time.sleep(60)
"""
OBEDIENT = "import time; print(flush=True); time.sleep(60)"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("grandchild.pid", "w").write(str(grandchild.pid))
print(flush=True)
time.sleep(60)
"""
TELLTALE = """
import signal, sys, time
def tell(number, frame):
    open("heard", "w").write(signal.Signals(number).name)
    sys.exit()
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, tell)
print(flush=True)
time.sleep(60)
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def seen(pid: int) -> Process:
    process = look(pid)
    assert process is not None
    return process


class Owner:
    """An owner in a process of its own, its watched child and its reaper."""

    def __init__(self, directory: Path, child: str, extra: str, patience: float) -> None:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER.format(extra=extra), str(patience), child],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        pids = self.process.stdout.readline().split()
        self.child, self.reaper = (seen(int(pid)) for pid in pids)

    def die(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Callable[..., Owner]]:
    made: list[Owner] = []

    def make(child: str = OBEDIENT, extra: str = "", patience: float = 10.0) -> Owner:
        made.append(Owner(tmp_path, child, extra, patience))
        return made[-1]

    yield make
    for one in made:
        one.die()
        assert one.process.stdout is not None
        one.process.stdout.close()
        kill(one.child)
        until(lambda one=one: not is_alive(one.reaper))  # type: ignore[misc]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_killed_owner_takes_its_child_along(owner: Callable[..., Owner]) -> None:
    victim = owner()
    assert is_alive(victim.child)
    victim.die()
    until(lambda: not is_alive(victim.child))
    until(lambda: not is_alive(victim.reaper))


def test_child_hears_the_signal_it_was_promised(owner: Callable[..., Owner], tmp_path: Path) -> None:
    victim = owner(TELLTALE)
    victim.die()
    until(lambda: not is_alive(victim.child))
    assert (tmp_path / "heard").read_text() == "SIGINT"


def test_stubborn_child_is_killed_with_its_own_children(owner: Callable[..., Owner], tmp_path: Path) -> None:
    victim = owner(STUBBORN, patience=0.2)
    grandchild = seen(int((tmp_path / "grandchild.pid").read_text()))
    victim.die()
    until(lambda: not is_alive(victim.child))
    until(lambda: not is_alive(grandchild))


def test_stopped_child_hears_its_signal_all_the_same(owner: Callable[..., Owner], tmp_path: Path) -> None:
    victim = owner(TELLTALE)
    freeze(victim.child)
    victim.die()
    until(lambda: not is_alive(victim.child))
    assert (tmp_path / "heard").read_text() == "SIGINT"


def test_forgotten_child_is_left_alone(owner: Callable[..., Owner]) -> None:
    victim = owner(extra="reaper.forget(child.pid); reaper.forget(child.pid)")
    victim.die()
    until(lambda: not is_alive(victim.reaper))
    assert is_alive(victim.child)


def test_reaper_is_deaf_to_signals_meant_for_its_owner(owner: Callable[..., Owner]) -> None:
    victim = owner()
    assert os.getsid(victim.reaper.pid) != os.getsid(victim.process.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(victim.reaper.pid, number)
    victim.die()
    until(lambda: not is_alive(victim.child))


@pytest.mark.parametrize(
    "survivor",
    [
        "subprocess.Popen(['sleep', '5'], close_fds=False, stdout=subprocess.DEVNULL)",
        "os.fork() or (os.close(1), time.sleep(5), os._exit(0))",
    ],
    ids=["started program", "fork"],
)
def test_other_children_do_not_keep_the_owner_alive(owner: Callable[..., Owner], survivor: str) -> None:
    victim = owner(extra=survivor)
    others = [p for p in family(seen(victim.process.pid))[1:] if p.pid not in (victim.child.pid, victim.reaper.pid)]
    assert others
    victim.die()
    until(lambda: not is_alive(victim.child))
    assert all(is_alive(other) for other in others)
    end(dict.fromkeys(others, signal.SIGKILL), DEADLINE)


def test_leaving_the_reaper_ends_what_is_still_watched(sleeper: subprocess.Popen[bytes]) -> None:
    with Reaper() as reaper:
        reaper.watch(sleeper.pid, signal.SIGTERM)
        assert sleeper.poll() is None
    assert sleeper.wait(DEADLINE) == -signal.SIGTERM
    reaper.close()
    reaper.forget(sleeper.pid)


def test_watching_without_a_reaper_is_an_error(sleeper: subprocess.Popen[bytes]) -> None:
    with Reaper() as reaper:
        os.kill(reaper.pid, signal.SIGKILL)
        until(lambda: look(reaper.pid) is None)
        with pytest.raises(BrokenPipeError):
            reaper.watch(sleeper.pid, signal.SIGTERM)
        reaper.forget(sleeper.pid)


def test_pid_that_was_given_out_again_is_spared(sleeper: subprocess.Popen[bytes]) -> None:
    predecessor = seen(sleeper.pid)._replace(started="0")
    assert not is_alive(predecessor)
    end({predecessor: signal.SIGKILL}, 1.0)
    assert is_alive(seen(sleeper.pid))


def test_orders_about_strangers_and_the_dead_are_passed_over(sleeper: subprocess.Popen[bytes]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    keep_watch([b"forget 1\n", b"watch %d 15\n" % gone.pid, b"watch %d 15\n" % sleeper.pid], 10.0)
    assert sleeper.wait(DEADLINE) == -signal.SIGTERM


def test_kept_descriptor_stays_open_until_the_last_process_has_ended(
    owner: Callable[..., Owner], tmp_path: Path
) -> None:
    extra = """
import fcntl
lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
keeper = Reaper(keep=[lock], patience=60)
keeper.watch(child.pid, signal.SIGHUP)
reaper.forget(child.pid)
"""
    victim = owner("import signal; signal.signal(1, signal.SIG_IGN);" + OBEDIENT, extra=extra)
    victim.die()
    until(lambda: not is_alive(victim.reaper))
    with open(tmp_path / "lock", "rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(victim.child.pid, signal.SIGKILL)
        until(lambda: _locks(lock))


def _locks(file: Any) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_frozen_family_stands_still_until_thawed(owner: Callable[..., Owner], tmp_path: Path) -> None:
    victim = owner(STUBBORN)
    grandchild = int((tmp_path / "grandchild.pid").read_text())
    assert [p.pid for p in freeze(victim.child)] == [victim.child.pid, grandchild]
    assert [p.state for p in family(victim.child)] == ["T", "T"]
    thaw(victim.child)
    until(lambda: "T" not in [p.state for p in family(victim.child)])
