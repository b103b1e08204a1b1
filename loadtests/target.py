"""Where the load goes: what a running service says of itself in `up.json`, and the first dossiers handed in there.

Only this machine is ever spoken to, unless HOSO24_LOAD_HOSTS names another host.
"""

import http.client
import ipaddress
import json
import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests import answers
from loadtests.answers import Failure, Status
from loadtests.codes import Dossier
from loadtests.system.http_client import Connection

UP_FILE = "HOSO24_LOAD_UP"
KEYS_FILE = "HOSO24_LOAD_KEYS"
MORE_HOSTS = "HOSO24_LOAD_HOSTS"

AGENCIES = ("G99.01.01", "G99.01.02", "G99.02.01", "G99.03.01", "G99.04.01")
SERVICES = tuple(f"S.{number:03d}" for number in range(1, 15))
"""From the sample catalogue, which `make up` installs; all of it is fictitious."""


class NoTarget(Exception):
    """There is nothing to put load on, in one sentence."""


@dataclass(frozen=True)
class Target:
    """A running service: two base URLs, a token for the intake, and dossiers it already has, the newest last.

    `lookup_admin` and `redis` are known of `make up` only, and asked for a cold start only.
    """

    lookup: str
    intake: str
    token: str
    samples: tuple[Dossier, ...] = ()
    lookup_admin: str | None = None
    redis: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Target":
        """The service that up.json describes. Raises NoTarget."""
        path = Path(environ.get(UP_FILE) or ".hoso24/up.json")
        try:
            up = json.loads(path.read_text("utf-8"))
            samples = tuple(Dossier(each["code"], each["key"], each["status"]) for each in up["samples"])
            urls = (up["lookup"].rstrip("/"), up["intake"].rstrip("/"))
            target = cls(*urls, up["token"], samples, up.get("lookup_admin"), up.get("redis"))
        except FileNotFoundError:
            raise NoTarget(f"There is no {path}: run `make up` in another terminal first.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NoTarget(f"{path} cannot be read: {type(error).__name__}: {error}.") from None
        for url in (target.lookup, target.intake):
            refuse_strangers(url, environ.get(MORE_HOSTS, ""))
        if keys := environ.get(KEYS_FILE):
            return replace(target, samples=(*_imported(Path(keys)), *target.samples))
        return target

    def statuses(self) -> dict[str, Status]:
        """The statuses the lookup publishes. Raises NoTarget when it does not."""
        try:
            with Connection(self.lookup) as lookup:
                return answers.statuses(lookup.send("GET", "/api/v1/statuses"))
        except (OSError, http.client.HTTPException, Failure, LookupError, TypeError, ValueError) as error:
            raise NoTarget(f"{self.lookup} does not answer ({error!r}): is `make up` still running?") from None

    def hand_in(self, count: int) -> Iterator[Dossier]:
        """Hand in that many new dossiers, one after the other. Raises NoTarget when one is not taken."""
        try:
            with Connection(self.intake) as intake:
                for _ in range(count):
                    headers = self.authorization | {"Idempotency-Key": str(uuid.uuid4())}
                    answer = intake.send("POST", "/api/v1/dossiers", submission(), headers)
                    yield Dossier.taken_in(answers.receipt(answer))
        except (OSError, http.client.HTTPException, Failure, LookupError, TypeError, ValueError) as error:
            detail = getattr(error, "detail", "")
            raise NoTarget(f"{self.intake} does not take dossiers in ({error!r}) {detail}".rstrip()) from None

    @property
    def authorization(self) -> dict[str, str]:
        """The header that lets the office in."""
        return {"Authorization": f"Bearer {self.token}"}


def submission() -> dict[str, Any]:
    """A new dossier as a desk or a portal hands it in."""
    return {
        "agency": random.choice(AGENCIES),
        "service": random.choice(SERVICES),
        "channel": random.choice(("direct", "online", "postal")),
        "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)", "id": f"999{random.randrange(10**9):09d}"},
    }


def transition(to: str, version: int) -> dict[str, Any]:
    """A move from that version, with the reasons and the list that some statuses and a second supplement demand."""
    more = {"items": ["Bản sao sổ bảo hiểm (ví dụ)"], "override": "Giấy tờ đã nộp bị mờ (ví dụ)."}
    usual = {"to": to, "expected_version": version, "note": "Hồ sơ còn thiếu giấy tờ (ví dụ)."}
    return usual | (more if to == "supplement_required" else {})


def _imported(path: Path) -> Iterator[Dossier]:
    """The dossiers of a file of lookup keys, which `hoso24 import` writes beside what it has imported."""
    try:
        lines = path.read_text("utf-8").splitlines()
        yield from (Dossier(each["code"], each["lookup_key"], "") for each in map(json.loads, lines))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoTarget(f"{path} cannot be read: {type(error).__name__}: {error}.") from None


def refuse_strangers(url: str, more_hosts: str, *, schemes: tuple[str, ...] = ("http", "https")) -> None:
    """Raise NoTarget unless that address is this machine's, or its host is named among `more_hosts`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in schemes or not host:
        raise NoTarget(f"{host or url} is not the address of a service.")
    if not _is_loopback(host) and host not in more_hosts.replace(",", " ").split():
        raise NoTarget(f"{host} is not this machine: to put load on it all the same, set {MORE_HOSTS}={host}.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
