import http.client
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ops.local.supervisor
from ops.local.cannot_start import CannotStart
from ops.local.ports import free_port
from ops.local.reaper import Process, is_alive, kill, look, send
from ops.local.servers import Lock
from ops.local.supervisor import Errand, Supervised, Supervisor, stop_running, write_up_file
from ops.local.valkey import ValkeyServer

pytestmark = pytest.mark.servers

DEADLINE = 30.0

# A service in one file: its name, its port, and what is odd about it. It leaves its pid behind, and says when it stops.
SERVICE = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

name, port, oddity = sys.argv[1:]

def stop(number, frame):
    with open("stopped", "a") as file:
        file.write(name + " ")
    sys.exit()

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if oddity == "never ready" else 200)
        self.end_headers()
        self.wfile.write(os.environ["GREETING"].encode())

signal.signal(signal.SIGTERM, signal.SIG_IGN if oddity == "stubborn" else stop)
Path(name + ".pid").write_text(str(os.getpid()))
if oddity == "broken" or (oddity == "broken later" and Path("broken").exists()):
    sys.exit("no such luck")
if oddity == "tells its supervisor to stop":
    os.kill(os.getppid(), signal.SIGTERM)
HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()
"""

SUPERVISOR = """
import sys
from pathlib import Path
from ops.local.supervisor import Supervisor, write_up_file
from tests.ops.test_supervisor import service

here = Path.cwd()
with Supervisor(here / "run", print) as supervisor:
    supervisor.start(service(here, "one", sys.argv[1]), service(here, "two"))
    write_up_file(here / "run", {"ready": True})
    print("ready", flush=True)
    supervisor.run()
"""

_given_ports: set[int] = set()


def service(directory: Path, name: str, oddity: str = "") -> Supervised:
    port = free_port(18_000 + os.getpid() % 900, avoid=_given_ports)
    _given_ports.add(port)
    return Supervised(
        name=name,
        argv=[sys.executable, "-c", f"import os; os.chdir({str(directory)!r})\n{SERVICE}", name, str(port), oddity],
        environ={"GREETING": f"This is {name}."},
        ready_url=f"http://127.0.0.1:{port}/readyz",
        log_path=directory / "logs" / f"{name}.log",
    )


def process(directory: Path, name: str) -> Process:
    found = look(int((directory / f"{name}.pid").read_text()))
    assert found is not None
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


class InAProcess:
    """A supervisor of two services in a process of its own."""

    def __init__(self, directory: Path, oddity: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, oddity],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout
        assert self.output.readline() == "ready\n"
        self.services = [process(directory, name) for name in ("one", "two")]

    def gone(self) -> bool:
        return self.process.poll() is not None and not any(is_alive(p) for p in self.services)


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., InAProcess]]:
    made: list[InAProcess] = []

    def make(oddity: str = "") -> InAProcess:
        made.append(InAProcess(tmp_path, oddity))
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.process.kill()
        for left in supervisor.services:
            kill(left)
        supervisor.process.wait()
        supervisor.output.close()


@pytest.fixture
def said() -> list[str]:
    return []


def get(url: str) -> str:
    connection = http.client.HTTPConnection(url.split("/")[2])
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


# Starting and stopping


def test_services_are_ready_after_start_and_stop_in_reverse_order(tmp_path: Path, said: list[str]) -> None:
    one, two = service(tmp_path, "one"), service(tmp_path, "two")
    with Supervisor(tmp_path / "run", said.append) as supervisor:
        supervisor.start(one)
        supervisor.start(two)
        assert get(one.ready_url) == "This is one."
        assert get(two.ready_url) == "This is two."
        running = [process(tmp_path, name) for name in ("one", "two")]
    assert (tmp_path / "stopped").read_text().split() == ["two", "one"]
    assert not any(is_alive(p) for p in running)
    assert said == []


def test_ctrl_c_reaches_the_supervisor_alone(tmp_path: Path, said: list[str]) -> None:
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(service(tmp_path, "one"))
        assert os.getpgid(process(tmp_path, "one").pid) != os.getpgid(0)


def test_service_logs_are_private_and_kept(tmp_path: Path, said: list[str]) -> None:
    one = service(tmp_path, "one")
    for _ in range(2):
        with Supervisor(tmp_path, said.append) as supervisor:
            supervisor.start(one)
    assert stat.S_IMODE(one.log_path.stat().st_mode) == 0o600
    assert one.log_path.read_text().count("GET /readyz") >= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_ends_everything_in_order(
    number: signal.Signals, supervise: Callable[..., InAProcess], tmp_path: Path
) -> None:
    supervisor = supervise()
    supervisor.process.send_signal(number)
    assert supervisor.process.wait(DEADLINE) == 0
    assert supervisor.gone()
    assert (tmp_path / "stopped").read_text().split() == ["two", "one"]
    assert not (tmp_path / "run" / "up.json").exists()


def test_killed_supervisor_takes_its_services_along(supervise: Callable[..., InAProcess], tmp_path: Path) -> None:
    supervisor = supervise()
    supervisor.process.kill()
    until(supervisor.gone)
    assert sorted((tmp_path / "stopped").read_text().split()) == ["one", "two"]


def test_stubborn_service_is_killed(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.local.supervisor, "STOP_SECONDS", 0.1)
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(service(tmp_path, "one", "stubborn"))
        stubborn = process(tmp_path, "one")
    assert not is_alive(stubborn)


def test_signal_during_start_leaves_quietly(tmp_path: Path, said: list[str]) -> None:
    reached = False
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(service(tmp_path, "one"))
        never = service(tmp_path, "three", "never ready")
        supervisor.start(service(tmp_path, "two", "tells its supervisor to stop"), never)
        reached = True
    assert supervisor.stopping
    assert not reached
    assert (tmp_path / "stopped").read_text().split()[-1] == "one"


def test_signals_are_as_before_when_the_stack_is_left(tmp_path: Path, said: list[str]) -> None:
    before = [signal.getsignal(number) for number in ops.local.supervisor.STOP_SIGNALS]
    with Supervisor(tmp_path, said.append):
        assert [signal.getsignal(number) for number in ops.local.supervisor.STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in ops.local.supervisor.STOP_SIGNALS] == before


def test_ignored_signal_stays_ignored(tmp_path: Path, said: list[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Supervisor(tmp_path, said.append) as supervisor:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not supervisor.stopping
    finally:
        signal.signal(signal.SIGHUP, before)


def test_terminal_that_is_gone_does_not_matter(tmp_path: Path) -> None:
    def say(text: str) -> None:
        raise OSError(5, "Input/output error")

    with Supervisor(tmp_path, say) as supervisor:
        supervisor.say("This is lost.")


# What does not start


def test_service_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path, said: list[str]) -> None:
    with (
        pytest.raises(CannotStart, match=r"two ended while it started: no such luck \(log: .*two\.log\)"),
        Supervisor(tmp_path, said.append) as supervisor,
    ):
        supervisor.start(service(tmp_path, "one"), service(tmp_path, "two", "broken"))
    assert (tmp_path / "stopped").read_text().split() == ["one"]


def test_service_that_is_never_ready_is_not_waited_for_for_ever(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.local.supervisor, "READY_SECONDS", 0.3)
    with pytest.raises(CannotStart, match="one was not ready within"), Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(service(tmp_path, "one", "never ready"))
    assert not is_alive_by_file(tmp_path / "one.pid")


def is_alive_by_file(path: Path) -> bool:
    return path.exists() and look(int(path.read_text())) is not None


def test_program_that_is_not_there_is_one_sentence(tmp_path: Path, said: list[str]) -> None:
    absent = Supervised("absent", ["./absent"], {}, "http://127.0.0.1:1/", tmp_path / "absent.log")
    with (
        pytest.raises(CannotStart, match=r"absent cannot start: ./absent: No such file"),
        Supervisor(tmp_path, said.append) as supervisor,
    ):
        supervisor.start(absent)


# Looking after


def test_service_that_dies_is_started_again_and_it_is_said(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.local.supervisor, "RESTART_PAUSE_SECONDS", 0.0)
    one = service(tmp_path, "one")

    def say(text: str) -> None:
        said.append(text)
        if text == "one is running again.":
            assert get(one.ready_url) == "This is one."
            os.kill(os.getpid(), signal.SIGTERM)

    with Supervisor(tmp_path, say) as supervisor:
        supervisor.start(one)
        first = process(tmp_path, "one")
        kill(first)
        supervisor.run()
        assert process(tmp_path, "one").pid != first.pid
    assert said == [
        f"one ended unexpectedly and is started again; its log is {one.log_path}.",
        "one is running again.",
    ]


def test_service_that_does_not_stay_up_is_given_up(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.local.supervisor, "RESTART_PAUSE_SECONDS", 0.0)
    with Supervisor(tmp_path, said.append) as supervisor:
        supervisor.start(service(tmp_path, "one"), service(tmp_path, "two", "broken later"))
        (tmp_path / "broken").touch()
        kill(process(tmp_path, "two"))
        with pytest.raises(CannotStart, match=r"two does not stay up; its log is .*two\.log"):
            supervisor.run()
    assert len([text for text in said if "is started again" in text]) == ops.local.supervisor.RESTARTS_IN_A_ROW
    assert len([text for text in said if "no such luck" in text]) == ops.local.supervisor.RESTARTS_IN_A_ROW
    assert (tmp_path / "stopped").read_text().split() == ["one"]


def test_restarts_count_anew_after_a_quiet_time(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops.local.supervisor, "RESTART_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(ops.local.supervisor, "QUIET_SECONDS", -1.0)

    def say(text: str) -> None:
        said.append(text)
        if text == "one is running again.":
            if said.count(text) > ops.local.supervisor.RESTARTS_IN_A_ROW:
                os.kill(os.getpid(), signal.SIGTERM)
            kill(process(tmp_path, "one"))

    with Supervisor(tmp_path, say) as supervisor:
        supervisor.start(service(tmp_path, "one"))
        kill(process(tmp_path, "one"))
        supervisor.run()


def test_embedded_server_is_looked_after_like_a_service(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.local.supervisor, "RESTART_PAUSE_SECONDS", 0.0)
    directory = Path(tempfile.mkdtemp(prefix="supervisor-"))
    directory.chmod(0o755)

    def say(text: str) -> None:
        said.append(text)
        if text == "Valkey is running again.":
            os.kill(os.getpid(), signal.SIGTERM)

    with Supervisor(directory, say) as supervisor:
        valkey = supervisor.add(ValkeyServer.start(directory / "redis", reaper=supervisor.reaper))
        os.kill(valkey.pid, signal.SIGKILL)
        supervisor.run()
        assert valkey.alive
    assert not valkey.alive
    assert len(said) == 2
    shutil.rmtree(directory)


# One at a time


def test_second_stack_in_a_directory_is_refused(supervise: Callable[..., InAProcess], tmp_path: Path) -> None:
    supervisor = supervise()
    with pytest.raises(CannotStart) as refused, Supervisor(tmp_path / "run", print):
        pass
    where = tmp_path / "run"
    assert str(refused.value) == (
        f"It is already running in {where} as process {supervisor.process.pid}; see {where / 'up.json'}."
    )
    assert (where / "up.json").exists()
    assert supervisor.process.poll() is None


def test_remains_of_a_killed_stack_are_waited_for(supervise: Callable[..., InAProcess], tmp_path: Path) -> None:
    supervisor = supervise("stubborn")
    stubborn = supervisor.services[0]
    supervisor.process.kill()
    supervisor.process.wait()
    until(lambda: not is_alive(supervisor.services[1]))
    lock = Lock(tmp_path / "run" / "lock")
    assert not lock.take(0), "the reaper has not finished"
    lock.close()
    os.kill(stubborn.pid, signal.SIGKILL)
    with Supervisor(tmp_path / "run", print):
        assert not is_alive(stubborn)


def test_down_stops_what_runs_and_waits(supervise: Callable[..., InAProcess], tmp_path: Path, said: list[str]) -> None:
    supervisor = supervise()
    assert stop_running(tmp_path / "run", said.append)
    assert not any(is_alive(p) for p in supervisor.services)
    assert said == [f"Stopped what was running in {tmp_path / 'run'}."]
    assert supervisor.process.wait(DEADLINE) == 0


@pytest.mark.parametrize("ever", [False, True], ids=["never ran", "ran before"])
def test_down_says_when_nothing_runs(ever: bool, tmp_path: Path, said: list[str]) -> None:
    if ever:
        with Supervisor(tmp_path, said.append):
            pass
    assert stop_running(tmp_path, said.append)
    assert said == [f"Nothing is running in {tmp_path}."]


def test_down_admits_that_it_could_not(supervise: Callable[..., InAProcess], tmp_path: Path, said: list[str]) -> None:
    supervisor = supervise()
    hung = look(supervisor.process.pid)
    assert hung is not None
    send([hung], signal.SIGSTOP)
    assert not stop_running(tmp_path / "run", said.append, patience=0.1)
    assert said == [f"Process {hung.pid}, which runs in {tmp_path / 'run'}, has not ended within 0 s."]


def test_up_file_is_private_json(tmp_path: Path) -> None:
    write_up_file(tmp_path, {"token": "not a real one", "samples": [{"status": "đã nhận"}]})
    path = tmp_path / "up.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"token": "not a real one", "samples": [{"status": "đã nhận"}]}
    assert os.listdir(tmp_path) == ["up.json"]


# Errands


def run_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    """`supervisor.run`, stopped by a signal once the condition holds."""

    def stop() -> None:
        try:
            until(condition)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    monitor = threading.Thread(target=stop)
    monitor.start()
    supervisor.run()
    monitor.join()


ERRAND = """
import os, sys, time
from pathlib import Path
os.chdir(sys.argv[1])
Path("running").touch(exist_ok=False)
with open("runs", "a") as runs:
    runs.write("x")
time.sleep(0.1)
os.remove("running")
sys.exit(os.path.getsize("runs") == 2)
"""


def test_errand_is_run_at_once_and_again_never_twice_at_a_time_and_a_failure_is_told(
    tmp_path: Path, said: list[str]
) -> None:
    log, runs = tmp_path / "logs" / "sweep.log", tmp_path / "runs"
    with Supervisor(tmp_path / "run", said.append) as supervisor:
        supervisor.repeat(Errand("sweep", [sys.executable, "-c", ERRAND, str(tmp_path)], {}, log, every=0.01))
        run_until(supervisor, lambda: runs.exists() and runs.stat().st_size > 3)
    assert said == [f"sweep failed and is tried again later; its log is {log}."]
    assert log.read_text() == ""
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_errand_that_runs_is_stopped_with_its_supervisor(tmp_path: Path, said: list[str]) -> None:
    pid = tmp_path / "pid"
    script = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(99)"
    with Supervisor(tmp_path / "run", said.append) as supervisor:
        argv = [sys.executable, "-c", script, str(pid)]
        supervisor.repeat(Errand("sweep", argv, {}, tmp_path / "sweep.log", every=3600))
        run_until(supervisor, lambda: pid.exists() and pid.read_text() != "")
        running = look(int(pid.read_text()))
    assert running is not None
    assert not is_alive(running)
