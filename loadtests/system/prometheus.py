"""A Prometheus with the published rules that scrapes the processes of a system, and a probe from outside beside it.

With `hurry` n, everything it waits for is n times shorter: `for` of an alert, and the windows of its rates. So a fault
of a minute is judged like one of 20 minutes. Alerts that need longer all the same are left out.
"""

import asyncio
import contextlib
import http.client
import json
import re
import shutil
import signal
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtests.answers import Answer
from loadtests.system.http_client import LOOPBACK, Client, Connection, NoAnswer, Rotation, request
from loadtests.system.processes import ROOT, CannotMeasure, free_port, spawned, stopped
from ops.local.reaper import Reaper

RULES = ROOT / "docs/monitoring/rules.yml"
NAMESPACE = "gameday"
EVERY = 1
"""Seconds between two scrapes, and between two evaluations of the rules."""
MISSING = "prometheus is not installed (Debian: apt-get install prometheus)"
OF_A_CLUSTER = "SourceAbsent"
"""The alert on exporters that a cluster has and a game day does not: it would fire after its hour, and be right."""
FITS = 90.0
"""The most seconds an alert may need, windows and `for` together; others are left out."""
START_SECONDS = 30.0
POLL_SECONDS = 0.1

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WINDOW = re.compile(r"\[(\d+)([smhd])\]")
_RECORDED = re.compile(r"slo:error_ratio:(\d+)([smhd])")


def installed() -> str | None:
    """The path of the program, None where there is none."""
    return shutil.which("prometheus")


def hurried(groups: Iterable[Mapping[str, Any]], hurry: float) -> list[dict[str, Any]]:
    """These groups of rules with `for` and all windows `hurry` times shorter, without alerts that do not fit."""
    return [
        {"name": group["name"], "rules": [_shortened(rule, hurry) for rule in group["rules"] if _fits(rule, hurry)]}
        for group in groups
        if group["name"] != "slo-budgets"
    ]


def _fits(rule: Mapping[str, Any], hurry: float) -> bool:
    if rule.get("alert") == OF_A_CLUSTER:
        return False
    if "alert" not in rule or hurry == 1:
        return True
    # A burn looks at two recorded windows; the shorter one ends it.
    windows = [_seconds(*found) for found in _WINDOW.findall(rule["expr"])] or [0.0]
    recorded = [_seconds(*found) for found in _RECORDED.findall(rule["expr"])] or [0.0]
    lasting = _seconds(rule["for"][:-1], rule["for"][-1])
    return (max(windows) + min(recorded) + lasting) / hurry <= FITS


def _shortened(rule: Mapping[str, Any], hurry: float) -> dict[str, Any]:
    expr = _WINDOW.sub(lambda found: f"[{_milliseconds(found[1], found[2], hurry)}]", rule["expr"])
    shorter = {**rule, "expr": expr}
    if "for" in rule:
        shorter["for"] = _milliseconds(rule["for"][:-1], rule["for"][-1], hurry)
    return shorter


def _seconds(count: str, unit: str) -> float:
    return float(count) * _SECONDS[unit]


def _milliseconds(count: str, unit: str, hurry: float) -> str:
    return f"{_seconds(count, unit) * 1000 / hurry:.0f}ms"


@dataclass(frozen=True)
class Firing:
    """An alert that fires or has fired: its name, and when it first did, on the monotonic clock."""

    name: str
    since: float


class Prometheus:
    """The running program."""

    def __init__(self, port: int, alerts: frozenset[str]) -> None:
        self.alerts = alerts
        """The names of those that fit."""
        self._port = port
        self._wall = time.time() - time.monotonic()

    async def firing(self) -> set[str]:
        """The names of alerts that fire now. Raises NoAnswer."""
        found = await self._ask("query", query='ALERTS{alertstate="firing"}')
        return {series["metric"]["alertname"] for series in found}

    async def fired(self, began: float, ended: float) -> list[Firing]:
        """Which alerts fired between two moments of the monotonic clock, the earliest first. Raises NoAnswer."""
        span = {"start": began + self._wall, "end": max(began + EVERY, ended) + self._wall, "step": EVERY}
        found = await self._ask("query_range", query='ALERTS{alertstate="firing"}', **span)
        first: dict[str, float] = {}
        for series in found:
            name, at = series["metric"]["alertname"], float(series["values"][0][0]) - self._wall
            first[name] = min(at, first.get(name, at))
        return sorted((Firing(name, since) for name, since in first.items()), key=lambda each: each.since)

    async def ready(self) -> bool:
        """Whether it has scraped the processes and no alert fires: until then it takes them for absent."""
        try:
            return bool(await self._ask("query", query="hoso24:installation")) and not await self.firing()
        except NoAnswer:
            return False

    async def _ask(self, what: str, **parameters: Any) -> Sequence[Mapping[str, Any]]:
        # In a thread: its longer answers come in chunks, which our own client does not read.
        try:
            answer = await asyncio.to_thread(self._get, f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"Prometheus: {error}") from None
        if answer.status != 200:
            raise NoAnswer(f"Prometheus answered {answer.status} for {parameters['query']}")
        return list(answer.json()["data"]["result"])

    def _get(self, path: str) -> Answer:
        with Connection(f"http://{LOOPBACK}:{self._port}") as connection:
            return connection.send("GET", path)


@contextlib.asynccontextmanager
async def running(
    program: str, folder: Path, reaper: Reaper, ports: Mapping[str, Sequence[int]], door: Rotation, hurry: float
) -> AsyncIterator[Prometheus]:
    """It scrapes whatever listens on these ports, by kind of process, and asks the door as a citizen would. Its
    files are in the folder.

    Raises CannotMeasure when it does not start.
    """
    groups = hurried(yaml.safe_load(RULES.read_text("utf-8"))["groups"], hurry)
    alerts = frozenset(rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule)
    (folder / "rules.yml").write_text(json.dumps({"groups": groups}), "utf-8")
    port, log = free_port(), folder / "log"
    async with _probe(door) as probe:
        targets = {**{kind: list(numbers) for kind, numbers in ports.items()}, "hoso24-edge": [probe]}
        (folder / "prometheus.yml").write_text(json.dumps(_configuration(targets)), "utf-8")
        process = await spawned(
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            log=log,
            environ={"GOMAXPROCS": "1"},
        )
        reaper.watch(process.pid, signal.SIGTERM)
        try:
            prometheus = Prometheus(port, alerts)
            async with asyncio.timeout(START_SECONDS):
                while not await prometheus.ready():
                    if process.returncode is not None:
                        raise CannotMeasure(f"Prometheus ended while it started; its log is {log}.")
                    await asyncio.sleep(POLL_SECONDS)
            yield prometheus
        except TimeoutError:
            raise CannotMeasure(f"Prometheus was not ready within {START_SECONDS:g} s; its log is {log}.") from None
        finally:
            await stopped(process)
            reaper.forget(process.pid)


def _configuration(targets: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{EVERY}s", "scrape_timeout": f"{EVERY}s", "evaluation_interval": f"{EVERY}s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {"targets": [f"{LOOPBACK}:{port}" for port in ports], "labels": {"namespace": NAMESPACE}}
                ],
            }
            for job, ports in targets.items()
        ],
    }


@contextlib.asynccontextmanager
async def _probe(door: Rotation) -> AsyncIterator[int]:
    """The port of what a black-box exporter would say of the door: whether it answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = b"probe_success %d\n" % await _answers(door)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # Prometheus has gone
        finally:
            writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def _answers(door: Rotation) -> bool:
    client = Client(door)
    try:
        return (await client.ask_any(request("GET", "/api/v1/statuses", {}))).status == 200
    except NoAnswer:
        return False
    finally:
        client.hang_up()
