"""A secret stands where it was put and nowhere else: not in `ps`, a log, a page, a probe or what a failure says."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.house import lookup_settings
from tests.system.test_up import PATIENCE, Up, directory, running, wait_for

pytestmark = pytest.mark.servers

__all__ = ["directory"]

MARK = "Hu5hMark"
"""A piece of every secret below; whatever holds it has given one away."""
KEYS = "1:" + "5a" * 32


NOTE = """
import json, os, sys

def note(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system"):
        with open(os.environ["COMMAND_LINES"], "a") as file:
            file.write(json.dumps([str(each) for each in arguments[:2]]) + "\\n")

sys.addaudithook(note)
"""
"""In every Python process of the house: what it starts. A program may change what `ps` shows a moment after."""


class House:
    """A house that runs, its secrets, and what can be seen of it from outside."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.home = up.directory / ".hoso24"
        self.command_lines: set[str] = set()
        self.names: set[str] = set()
        self.said: dict[str, Any] = {}

    def watch_ps_until_ready(self) -> None:
        """Look at every command line again and again, those of programs that are gone in a moment included."""

        def looked() -> bool:
            for process in self.up.family():
                with contextlib.suppress(psutil.Error):
                    self.command_lines.add("\0".join(process.cmdline()))
                    self.names.add(process.name())
            return "Watch one move" in self.up.printed or self.up.process.poll() is not None

        wait_for(looked)
        self.said = self.up.wait_until_ready()
        looked()

    def secrets(self) -> dict[str, str]:
        made = json.loads((self.home / "secrets.json").read_text("utf-8"))
        return {
            **{f"password of {role}": password for role, password in made["passwords"].items()},
            "secret of the lookup keys": made["lookup_keys"].partition(":")[2],
            "password of the superuser": (self.home / "postgres" / "password").read_text(),
            "password of Valkey": (self.home / "redis" / "password").read_text(),
            "token": made["token"],
            **{f"key of {sample['code']}": sample["key"] for sample in self.said["samples"]},
        }

    def logs(self) -> dict[str, str]:
        paths = [*(self.home / "logs").iterdir(), self.home / "postgres" / "log", self.home / "redis" / "log"]
        return {path.name: path.read_text("utf-8", errors="replace") for path in paths}

    def asks(self, url: str, body: bytes | None = None, **headers: str) -> str:
        """What is answered, head and body, whatever its status."""
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
                return f"{response.headers}{response.read().decode()}"
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.headers}{error.read().decode()}"

    def shown(self) -> Iterator[str]:
        """What its admin ports tell, and its pages."""
        code = self.said["samples"][0]["code"]
        for port in ("lookup_admin", "intake_admin", "relay_admin", "notary_admin"):
            for path in ("/health", "/metrics", f"/reports/why?code={code}", "/nowhere"):
                yield self.asks(self.said[port] + path)
        for path in ("/", f"/tra-cuu/{code}", "/api/v1/nowhere"):
            yield self.asks(self.said["lookup"] + path)

    def is_used(self) -> None:
        """Every secret is sent where it belongs, and where it does not."""
        token, sample = self.said["token"], self.said["samples"][0]
        bearer, key = f"Bearer {token}", sample["key"]
        for authorization in (bearer, bearer + "x", token):
            for body in (b"{}", b"{", b'{"agency": "' + token.encode() + b'"}'):
                url = f"{self.said['intake']}/api/v1/dossiers"
                self.asks(url, body, Authorization=authorization, **{"Idempotency-Key": "one"})
        path = f"/api/v1/dossiers/{sample['code']}"
        self.asks(self.said["lookup"] + path, **{"Hoso24-Key": key, "Authorization": bearer})
        self.asks(f"{self.said['lookup']}{path}?key={key}")
        self.asks(f"{self.said['lookup']}/tra-cuu/{sample['code']}?key={key}")
        self.asks(f"{self.said['lookup']}/api/v1/lookups", json.dumps({"dossiers": [{"code": key}]}).encode())

    def postgres_dies(self) -> None:
        """It is killed, missed, and started again."""
        pid = int((self.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
        assert pid in {each.pid for each in self.up.family()}
        os.kill(pid, signal.SIGKILL)
        while "PostgreSQL is running again" not in self.up.printed:
            self.is_used()
            time.sleep(0.1)


def test_secrets_of_a_running_house_stand_in_its_private_files_only(directory: Path) -> None:
    (directory / "sitecustomize.py").write_text(NOTE)
    noted = {
        "PYTHONPATH": os.pathsep.join([str(directory), *sys.path]),
        "COMMAND_LINES": str(directory / "command-lines"),
    }
    with running(directory, HOSO24_LOG_LEVEL="debug", **noted) as up:
        house = House(up)
        house.watch_ps_until_ready()
        house.is_used()
        house.postgres_dies()
        shown = "".join(house.shown())
    secrets, logs = house.secrets(), house.logs()
    started = (directory / "command-lines").read_text("utf-8")
    assert all(program in started for program in ("initdb", "postgres", "valkey-server", "hoso24"))
    assert {"postgres", "valkey-server"} <= house.names
    assert set(logs) >= {"lookup.log", "intake.log", "relay.log", "log"}
    assert all(len(secret) >= 12 for secret in secrets.values())
    on_purpose = {"token", *(name for name in secrets if name.startswith("key of"))}
    for name, secret in secrets.items():
        assert not [line for line in house.command_lines if secret in line], f"{name} is in ps"
        assert secret not in started, f"{name} is an argument"
        assert not [log for log, text in logs.items() if secret in text], f"{name} is in a log"
        assert secret not in shown, f"{name} is told"
        assert name in on_purpose or secret not in up.printed, f"{name} is printed"
    assert_private(house.home, [secret.encode() for secret in secrets.values()])


def assert_private(home: Path, secrets: list[bytes]) -> None:
    """Whatever file holds a secret may be read by its owner alone."""
    holding = []
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink() and any(secret in path.read_bytes() for secret in secrets):
            holding.append(path.name)
            assert path.stat().st_mode & 0o077 == 0, path
    assert set(holding) >= {"secrets.json", "environ", "password", "valkey.conf"}


# -- what a process says that cannot start -----------------------------------------------------------------------

WORKING = {
    "HOSO24_HOST": "127.0.0.1",
    "HOSO24_REDIS_URL": f"redis://:{MARK}@127.0.0.1:1/0",
    "HOSO24_LOOKUP_KEY_SECRETS": KEYS,
    "HOSO24_LOG_LEVEL": "debug",
} | {
    f"HOSO24_PG_{role}_URL": f"postgresql://hoso24_{role.lower()}:{MARK}@127.0.0.1:1/hoso24"
    for role in ("READER", "WRITER", "RELAY", "OWNER", "ADMIN")
}
BROKEN = [
    ("lookup", {"HOSO24_PG_READER_URL": f"postgresql://u:{MARK}/more@127.0.0.1:1/hoso24"}),
    ("lookup", {"HOSO24_REDIS_URL": f"http://:{MARK}@127.0.0.1:1/0"}),
    ("intake", {"HOSO24_LOOKUP_KEY_SECRETS": f"1:{MARK}"}),
    ("relay", {"HOSO24_REDIS_URL": f"redis://:{MARK}#more@127.0.0.1:1/0"}),
    ("migrate", {}),
    ("up", {"HOSO24_PG_READER_URL": f"postgresql://u:{MARK}/more@127.0.0.1:1/hoso24"}),
]


def test_process_that_cannot_start_gives_no_secret_away(directory: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}

    def start(command: str, broken: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hoso24", command],
            cwd=directory,
            env=clean | WORKING | broken,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    with ThreadPoolExecutor(max_workers=2) as pool:
        said = {str(case): done for case, done in zip(BROKEN, pool.map(lambda case: start(*case), BROKEN), strict=True)}
    for case, process in said.items():
        assert process.returncode != 0, case
        assert process.stdout, case
        assert MARK not in process.stdout, (case, process.stdout)


@pytest.mark.parametrize("name", ["lookup_key_secrets", "redis_url", "pg_url"])
def test_settings_in_a_traceback_show_no_secret(name: str) -> None:
    settings = lookup_settings(f"postgresql://u:{MARK}@h/x", f"redis://:{MARK}@h/0")
    assert MARK not in repr(settings)
    assert MARK not in f"{getattr(settings, name)}"
