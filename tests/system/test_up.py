"""`hoso24 up` as a stranger meets it: what it prints works, data survive, and nothing outlives it."""

import contextlib
import fcntl
import json
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

pytestmark = pytest.mark.servers

PATIENCE = 240.0
ROLES = (
    *("owner", "writer", "relay", "reader", "notary", "auditor", "archivist", "webhooks", "desk", "notices", "figures"),
)
OF_EVERY_PROCESS = ("hoso24_", "python_", "process_")


class Up:
    """A running `hoso24 up`, and what it has printed so far."""

    def __init__(self, directory: Path, *words: str, **environ: str) -> None:
        home = directory / "home"
        home.mkdir(exist_ok=True)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HOSO24_", "OTEL_"))}
        self.directory = directory
        self.printed = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hoso24", "up", *words],
            cwd=directory,
            env=clean | {"HOME": str(home), "PYTHONUNBUFFERED": "1"} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed += line

    def wait_until_ready(self) -> dict[str, Any]:
        wait_for(lambda: "Watch one move" in self.printed or self.process.poll() is not None)
        assert "Watch one move" in self.printed, self.printed
        path = self.directory / ".hoso24" / "up.json"
        assert path.stat().st_mode & 0o777 == 0o600
        return dict(json.loads(path.read_text("utf-8")))

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything it has started, whatever session it is in."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(timeout=PATIENCE)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="hoso24-up-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def lived_in() -> Iterator[Path]:
    """A directory in which a house has run before, and what it was, in `first.json`: a start there makes no data."""
    directory = Path(tempfile.mkdtemp(prefix="hoso24-up-"))
    directory.chmod(0o755)
    with running(directory) as up:
        first = up.wait_until_ready()
    assert not (directory / ".hoso24" / "up.json").exists()
    (directory / "first.json").write_text(json.dumps(first))
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One test at a time on this machine: one of them takes a port by force, which another's house may be about to."""
    with (Path(tempfile.gettempdir()) / f"hoso24-up-tests-{os.geteuid()}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def started(directory: Path, *words: str, **environ: str) -> Iterator[Up]:
    """A house; told to end, nothing of it is left."""
    up = Up(directory, *words, **environ)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            family = up.family()
            up.end(signal.SIGTERM)
            wait_for(lambda: nothing_left(family))


@contextlib.contextmanager
def running(directory: Path, *words: str, **environ: str) -> Iterator[Up]:
    """A house, alone."""
    with alone(), started(directory, *words, **environ) as up:
        yield up


def metrics_of(admin_url: str) -> set[str]:
    """The names of the metrics that a process exports."""
    with urllib.request.urlopen(f"{admin_url}/metrics") as response:  # noqa: S310 - http, by `up`
        lines = response.read().decode().splitlines()
    return {line.split()[2] for line in lines if line.startswith("# TYPE ")}


def get(url: str, **headers: str) -> tuple[int, Any]:
    return send("GET", url, None, **headers)


def send(method: str, url: str, content: Any, **headers: str) -> tuple[int, Any]:
    assert url.startswith("http://127.0.0.1:")
    body = None if content is None else json.dumps(content).encode()
    headers = {"Idempotency-Key": str(uuid.uuid4())} | headers
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - loopback, checked above
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def nothing_left(family: list[psutil.Process]) -> bool:
    return not any(lives(each) for each in family)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two
        return False


def test_what_it_prints_works_and_a_dossier_goes_through(directory: Path) -> None:
    with running(directory) as up:
        house = up.wait_until_ready()
        (curl,) = [line.strip() for line in up.printed.splitlines() if "Hoso24-Key" in line]
        words = shlex.split(curl)
        assert words[:2] == ["curl", "-s"]
        name, _, key = words[words.index("-H") + 1].partition(": ")
        status, view = get(words[2], **{name: key})
        assert status == 200
        assert view["timeline"]
        assert "█" in up.printed
        shared = os.geteuid() == 0 == Path(__file__).stat().st_uid and "HOSO24_UP_USER" not in os.environ
        assert ("Warning: root starts the servers as nobody" in up.printed) == shared

        bearer = {"Authorization": f"Bearer {house['token']}"}
        submission = {"agency": "G99.01.01", "service": "S.004", "applicant": {"name": "Lê Thị Thử (hư cấu)"}}
        status, receipt = send("POST", house["intake"] + "/api/v1/dossiers", submission, **bearer)
        assert status == 201
        path = f"/api/v1/dossiers/{receipt['code']}"
        assert get(house["lookup"] + path)[1]["status"] == "submitted"
        for to in ("received", "processing"):
            assert send("POST", house["intake"] + path + "/transitions", {"to": to}, **bearer)[0] == 200
        wait_for(lambda: get(house["lookup"] + path)[1]["status"] == "processing")

        # What docs/sandbox.md begins with, to be copied as it stands, and the pages about the API.
        for name, value in (("LOOKUP", "lookup"), ("INTAKE", "intake"), ("TOKEN", "sandbox_token")):
            assert f"\n  {name}={house[value]}\n" in up.printed
        for page in ("lookup/docs", "intake/docs", "lookup/en/developers"):
            service, _, path = page.partition("/")
            assert f"{house[service]}/{path}" in up.printed
            with urllib.request.urlopen(f"{house[service]}/{path}") as answer:  # noqa: S310 - loopback
                assert answer.status == 200
        wait_for(lambda: get(f"{house['lookup']}/api/v1/dossiers/X99.01-260101-0010")[1].get("status") == "returned")
        bearer = {"Authorization": f"Bearer {house['sandbox_token']}"}
        submission["agency"] = "X99.03"
        status, receipt = send("POST", house["intake"] + "/api/v1/dossiers", submission, **bearer)
        assert (status, receipt["code"][:7]) == (201, "X99.03-")

        status, health = get(house["lookup_admin"] + "/health")
        assert status == 200
        assert "postgres" in json.dumps(health)
        for service, metric in (
            ("lookup", "lookup_epoch"),
            ("intake", "intake_dossiers_received_total"),
            ("relay", "relay_leader"),
        ):
            # A process that exported another's metrics at 0 would keep alerts on them from telling anything.
            exported = metrics_of(house[f"{service}_admin"])
            assert metric in exported
            foreign = [name for name in exported if not name.startswith((f"{service}_", *OF_EVERY_PROCESS))]
            assert foreign == [], f"{service} exports {foreign}: a metric belongs to the process that moves it"


def test_data_survive_and_a_taken_port_is_passed_over_and_said(lived_in: Path) -> None:
    first = json.loads((lived_in / "first.json").read_text())
    with socket.socket() as taken, alone():
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # a listener of another process is as good as ours
            taken.bind(("127.0.0.1", 8090))
            taken.listen()
        with started(lived_in) as up:
            second = up.wait_until_ready()
            assert "Port 8090 is taken" in up.printed
            assert not second["intake"].endswith(":8090")
            assert "Importing" not in up.printed
            assert second["token"] == first["token"]
            assert second["samples"] == first["samples"]
            sample = second["samples"][0]
            path = f"/api/v1/dossiers/{sample['code']}"
            assert get(second["lookup"] + path, **{"Hoso24-Key": sample["key"]})[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_every_process_ends_with_it(lived_in: Path, number: int) -> None:
    with running(lived_in) as up:
        up.wait_until_ready()
        family = up.family()
        assert len(family) > 6
        up.end(number)
        wait_for(lambda: nothing_left(family))


LEADER = """
import fcntl, signal, subprocess, sys, termios
signal.signal(signal.SIGHUP, lambda *_: None)  # as make does: it waits for its child and passes nothing on
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
subprocess.call([sys.executable, "-m", "hoso24", "up"])
"""


def test_closed_terminal_ends_it_though_another_leads_the_session(lived_in: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}
    with alone():
        terminal, its_end = os.openpty()
        leader = subprocess.Popen(
            [sys.executable, "-c", LEADER],
            cwd=lived_in, env=clean, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True,
        )  # fmt: skip
        os.close(its_end)
        printed = b""
        while b"Watch one move" not in printed:
            assert select.select([terminal], [], [], PATIENCE)[0], printed
            printed += os.read(terminal, 65536)
        me = psutil.Process(leader.pid)
        family = [me, *me.children(recursive=True)]
        assert len(family) > 6
        os.close(terminal)
        leader.wait(timeout=PATIENCE)
        wait_for(lambda: nothing_left(family))


def test_two_started_at_once_have_ports_of_their_own(directory: Path) -> None:
    places = [directory / name for name in ("one", "other")]
    with alone(), contextlib.ExitStack() as stack:
        houses = []
        for place in places:
            place.mkdir()
            up = Up(place)
            stack.callback(up.end, signal.SIGTERM)
            houses.append(up)
        one, other = (up.wait_until_ready() for up in houses)
        names = (
            *("lookup", "lookup_admin", "intake", "intake_admin", "relay_admin", "notary", "notary_admin"),
            *("webhooks_admin", "notices", "notices_admin"),
        )
        assert not {one[name] for name in names} & {other[name] for name in names}
        for house in (one, other):
            sample = house["samples"][0]
            path = f"/api/v1/dossiers/{sample['code']}"
            assert get(house["lookup"] + path, **{"Hoso24-Key": sample["key"]})[0] == 200


def test_second_up_in_the_same_directory_says_that_one_runs_and_down_stops_that(lived_in: Path) -> None:
    with running(lived_in) as up:
        up.wait_until_ready()
        second = Up(lived_in)
        assert second.wait() != 0
        assert "already running" in second.printed
        assert len(second.printed.strip().splitlines()) == 1
        family = up.family()
        down = subprocess.run(
            [sys.executable, "-m", "hoso24", "down"], cwd=lived_in, capture_output=True, text=True, check=False
        )
        assert down.returncode == 0, down.stderr
        up.wait()
        assert nothing_left(family)


def test_half_of_the_real_servers_named_is_one_clear_sentence(directory: Path) -> None:
    up = Up(directory, HOSO24_PG_READER_URL="postgresql://hoso24_reader@127.0.0.1:1/hoso24")
    assert up.wait() != 0
    assert "HOSO24_PG_WRITER_URL" in up.printed
    assert "Traceback" not in up.printed


def test_real_servers_take_the_place_of_the_embedded_ones(
    directory: Path, postgres_server: Any, redis_server: Any
) -> None:
    where = f"{postgres_server.host}:{postgres_server.port}/of_the_house"
    environ = {
        f"HOSO24_PG_{role.upper()}_URL": f"postgresql://hoso24_{role}:hoso24_{role}@{where}" for role in ROLES
    } | {"HOSO24_PG_ADMIN_URL": postgres_server.admin_url}
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()  # other tests have left epochs and streams of their own
    with running(directory, **environ, HOSO24_REDIS_URL=redis_server.url) as up:
        house = up.wait_until_ready()
        assert house["redis"] == redis_server.url
        assert not (directory / ".hoso24" / "postgres").exists()
        status, _ = get(f"{house['lookup']}/api/v1/dossiers/{house['samples'][0]['code']}")
        assert status == 200


def test_data_of_an_earlier_schema_are_refused_in_one_sentence_and_set_aside_when_asked(directory: Path) -> None:
    """The one before had the same numbers and other names."""
    with running(directory) as up:
        first = up.wait_until_ready()
        rename = "UPDATE schema_version SET name = '0003_event' WHERE version = 3"
        psql = [directory / ".hoso24" / "bin" / "psql", first["postgres"]["owner"], "--command", rename]
        subprocess.run(psql, check=True, capture_output=True)
    refused = Up(directory)
    assert refused.wait() != 0
    assert "Traceback" not in refused.printed
    last = refused.printed.splitlines()[-1]
    assert "0003_event" in last
    assert "nothing of it can be taken over" in last
    assert "hoso24 up --fresh" in last
    with running(directory, "--fresh") as up:
        second = up.wait_until_ready()
        assert second["token"] != first["token"]
        assert get(f"{second['lookup']}/api/v1/dossiers/{second['samples'][0]['code']}")[0] == 200
    (aside,) = (directory / ".hoso24").glob("before-*")
    assert str(aside.relative_to(directory)) in up.printed
    assert {"postgres", "redis", "secrets.json"} <= {path.name for path in aside.iterdir()}


def test_missing_settings_are_all_named_at_once(directory: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}
    environ = clean | {"HOSO24_LOOKUP_PORT": "ninety"}
    started = subprocess.run(
        [sys.executable, "-m", "hoso24", "lookup"],
        cwd=directory, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert started.returncode != 0
    for name in ("HOSO24_REDIS_URL", "HOSO24_PG_READER_URL", "HOSO24_LOOKUP_KEY_SECRETS", "HOSO24_LOOKUP_PORT"):
        assert name in started.stderr
    assert "Traceback" not in started.stderr
