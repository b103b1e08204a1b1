"""A synchronisation beside single moves: how much faster, how many seconds of processor, and how fast a repeat is.

Creates dossiers by `POST /api/v1/sync`, moves each once by another body, sends that body again, and moves as many as
time allows one by one; all in one run, since the machine's speed changes from hour to hour. The processor's seconds are
those of PostgreSQL, intake, relay, notary, Redis and lookup until everything is delivered, without what they use idle.
Starts a system of its own in a temporary directory and stops it again; ends with status 1 if a line is lost or doubled.
"""

import argparse
import asyncio
import collections
import contextlib
import http.client
import json
import os
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any

import psutil

from loadtests.system.http_client import Client, fetch, request
from loadtests.system.installation import Installation, with_samples
from loadtests.system.processes import HOSO24, POLL_SECONDS, CannotMeasure, free_port, started, wait_until

AGENCY = "G99.01.01"
SERVICE = "S.004"
PATIENCE = 130.0
"""Seconds; a body takes at most 120."""
DELIVERY_SECONDS = 60.0
IDLE_SECONDS = 3.0
SHOWN_FROM = 0.005
"""Milliseconds of a program for a line."""
DELIVERED = "SELECT at - delivered_at < interval '20 milliseconds' AND now() - at < interval '1 second' FROM heartbeat"
RECORDED = "SELECT count(*), count(DISTINCT (source, source_event_id)) FROM event WHERE source_event_id LIKE $1"


@dataclass(frozen=True)
class Took:
    """Lines of a body, or single moves; seconds of the clock, and of the processor until all is delivered."""

    lines: int
    seconds: float
    processor: dict[str, float]
    """By program, without what it uses when nothing is asked of it."""

    @property
    def rate(self) -> float:
        """Lines a second."""
        return self.lines / self.seconds


def main() -> None:
    """Run it, and print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="lines of a body (10000)")
    parser.add_argument("--clients", type=int, default=8, help="clients of the single moves (8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for how long they move (10)")
    options = parser.parse_args()
    with with_samples() as system:
        wrong = compared(system, options.n, options.clients, options.seconds)
    print("\n".join(wrong) or "Each line was recorded once.")
    raise SystemExit(1 if wrong else 0)


def compared(system: Installation, n: int, clients: int, seconds: float) -> list[str]:
    """What was wrong, in words. Prints the figures."""
    token = json.loads((system.folder / ".hoso24" / "up.json").read_text("utf-8"))["token"]
    port, admin = free_port(), free_port()
    environ = {
        **system.environ,
        "HOSO24_CLIENT_WRITES": "1000000",
        "HOSO24_CLIENT_LINES": "100000000",
        "HOSO24_INTAKE_PORT": str(port),
        "HOSO24_INTAKE_ADMIN_PORT": str(admin),
    }
    log = system.folder / "intake-sync.log"
    with started([*HOSO24, "intake"], core=None, log=log, environ=environ, cwd=system.folder) as process:
        ready = f"http://127.0.0.1:{admin}/readyz"
        wait_until(lambda: fetch(ready).status == 200, "the intake", seconds=60.0, process=process, log=log)
        meter = Meter([system.pid, process.pid])
        run = uuid.uuid4().hex[:8]
        codes = [f"{AGENCY}-260201-{number:06}" for number in range(1, n + 1)]
        create = {
            "agency": AGENCY,
            "service": SERVICE,
            "channel": "direct",
            "submitted_at": "2026-02-01T08:00:00+07:00",
            "applicant": {"name": "Trần Thị Thử (hư cấu)"},
        }
        created = [{"id": f"{run}-c{at}", "dossier": code, "create": create} for at, code in enumerate(codes)]
        moved = [
            {"id": f"{run}-m{at}", "dossier": code, "source_seq": 1, "status": "processing", "department": "Phòng A"}
            for at, code in enumerate(codes)
        ]
        wrong: list[str] = []
        print(f"{'':<22}{'lines':>8}{'seconds':>9}{'per second':>12}  processor ms a line", flush=True)
        for name, lines, result in (
            ("sync: create", created, "created"),
            ("sync: move", moved, "applied"),
            ("sync: the same again", moved, "duplicate"),
        ):
            took, counted = _sync(system, meter, port, token, lines)
            _tell(name, took)
            if counted != {result: n}:
                wrong.append(f"{name}: the answers were {dict(counted)}")
            if name == "sync: move":
                rate = took.rate
        single = asyncio.run(_moves(system, meter, port, token, codes, clients, seconds))
        _tell("single moves", single)
        metrics = fetch(f"http://127.0.0.1:{admin}/metrics").body
        paused = re.search(rb"^intake_sync_paused_seconds_total (\S+)", metrics, re.MULTILINE)
        print(f"Synchronisations waited for the relay for {float(paused[1]) if paused else 0:.1f} s.")
        print(f"A synchronisation is {rate / single.rate:.1f} times as fast as single moves.")
        recorded, distinct = system.ask("owner", lambda owner: owner.fetchrow(RECORDED, f"{run}-%"))
        if recorded != 2 * n or distinct != 2 * n:
            wrong.append(f"of {2 * n} ids {distinct} are in the log, in {recorded} events")
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"Load of the machine over 1, 5 and 15 minutes: {load}")
    return wrong


def _tell(name: str, took: Took) -> None:
    most = sorted(took.processor.items(), key=lambda item: -item[1])
    each = {program: 1000 * used / took.lines for program, used in most}
    shares = ", ".join(f"{program} {used:.3f}" for program, used in each.items() if used >= SHOWN_FROM)
    whole = f"{sum(each.values()):.3f}: {shares}"
    print(f"{name:<22}{took.lines:>8,}{took.seconds:>9.2f}{took.rate:>12,.0f}  {whole}", flush=True)


def _sync(
    system: Installation, meter: "Meter", port: int, token: str, lines: list[dict[str, Any]]
) -> tuple[Took, Counter[str]]:
    body = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    before = meter.read()
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("POST", "/api/v1/sync", body, headers)
        answer = connection.getresponse().read()
    seconds = time.perf_counter() - began
    _until_delivered(system)
    counted = Counter(json.loads(line).get("result") for line in answer.splitlines())
    del counted[None]
    return Took(len(lines), seconds, meter.since(before)), counted


async def _moves(
    system: Installation, meter: "Meter", port: int, token: str, codes: list[str], clients: int, seconds: float
) -> Took:
    left, moved = iter(codes), 0
    before = meter.read()
    began = time.perf_counter()

    async def client(line: Client) -> None:
        nonlocal moved
        while time.perf_counter() - began < seconds and (code := next(left, None)) is not None:
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
            path = f"/api/v1/dossiers/{code}/transitions"
            answer = await line.ask(request("POST", path, headers, json.dumps({"to": "processing"}).encode()))
            if answer.status != 200:
                raise SystemExit(f"A move was answered {answer.status}: {answer.body[:200]!r}")
            moved += 1

    with contextlib.ExitStack() as stack:
        await asyncio.gather(*(client(stack.enter_context(Client.of(port))) for _ in range(clients)))
    took = time.perf_counter() - began
    await asyncio.to_thread(_until_delivered, system)
    return Took(moved, took, meter.since(before))


def _until_delivered(system: Installation) -> None:
    deadline = time.monotonic() + DELIVERY_SECONDS
    while not system.ask("owner", lambda owner: owner.fetchval(DELIVERED)):
        if time.monotonic() > deadline:
            raise CannotMeasure(f"The relay had not delivered everything within {DELIVERY_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)


class Meter:
    """Seconds of the processor that these processes and all below them use, by program. Idle for a while at first."""

    def __init__(self, roots: list[int]) -> None:
        self._roots = roots
        self._idle: dict[str, float] = collections.defaultdict(float)
        before = self.read()
        time.sleep(IDLE_SECONDS)
        idle = self.since(before)
        self._idle |= {program: used / IDLE_SECONDS for program, used in idle.items()}

    def read(self) -> tuple[float, dict[str, float]]:
        """Now, and what has been used since each began, by those that have ended too."""
        used: dict[str, float] = collections.defaultdict(float)
        for root in map(psutil.Process, self._roots):
            for each in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    times = each.cpu_times()
                    program = _program(each)
                    used[program] += times.user + times.system + times.children_user + times.children_system
        return time.perf_counter(), used

    def since(self, before: tuple[float, dict[str, float]]) -> dict[str, float]:
        """What was used since then, without what is used by being idle for as long."""
        now, used = self.read()
        idle = {program: (now - before[0]) * self._idle[program] for program in used}
        return {program: used[program] - before[1].get(program, 0.0) - idle[program] for program in used}


def _program(process: psutil.Process) -> str:
    """`intake`, `relay` and so on; the name of any other program."""
    words = process.cmdline()
    return words[-1] if "hoso24" in " ".join(words[:4]) and words[-1].isalpha() else process.name()


if __name__ == "__main__":
    main()
