"""Receptions while `hoso24 import` brings in the same agency's codes of the same day, or year.

An import of 60,000 codes used to stop an office's intake: each reception counted its way through them. Here clients go
on receiving from before the import until after it. None may wait longer than a second, every answered dossier is there,
none is there that nobody was told of, and no line of the file is passed over as "already here". Starts a system of its
own in a temporary directory and stops it again; ends with status 1 if one of these does not hold.
"""

import argparse
import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from loadtests.system.http_client import Client, fetch, request
from loadtests.system.installation import Installation, with_samples
from loadtests.system.processes import HOSO24, finished, free_port, started, wait_until

VIETNAM = timezone(timedelta(hours=7))
LONGEST_WAIT = 1.0
"""Seconds."""
REPEAT_SECONDS = 0.1
IMPORT_SECONDS = 1800.0
READY_SECONDS = 60.0
AGENCIES = {"B": "G99.01.01", "D": "99901"}
SERVICE = "S.004"

STORED = "SELECT code FROM dossier WHERE code = ANY ($1) OR submitted_by IS NOT NULL"
LAST = "SELECT coalesce(max(last), 0) FROM daily_sequence WHERE agency = $1"
RUN = "SELECT taken, already_here, rejected FROM import_run WHERE name = $1"


@dataclass
class Received:
    """What the clients saw."""

    codes: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    """Seconds."""
    failures: list[str] = field(default_factory=list)


def main() -> None:
    """Run it for scheme B and for scheme D, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=60_000, help="imported dossiers (60000)")
    parser.add_argument("--clients", type=int, default=20, help="clients that receive meanwhile (20)")
    options = parser.parse_args()
    wrong = []
    with with_samples() as system:
        print(
            f"{'scheme':<8}{'seconds':>9}{'receptions':>12}{'median ms':>11}{'p99 ms':>9}{'longest ms':>12}", flush=True
        )
        for scheme in AGENCIES:
            wrong += [f"scheme {scheme}: {what}" for what in beside(system, scheme, options.n, options.clients)]
    print("\n".join(wrong) or "Nothing was lost, doubled or kept waiting.")
    raise SystemExit(1 if wrong else 0)


def beside(system: Installation, scheme: str, n: int, clients: int) -> list[str]:
    """One import beside so many clients; what was wrong, in words. Prints the figures."""
    today, agency = datetime.now(VIETNAM), AGENCIES[scheme]
    form = f"{agency}-{today:%y%m%d}-{{:04d}}" if scheme == "B" else f"{{:05d}}/{today:%Y}/{agency}"
    first = system.ask("owner", lambda owner: owner.fetchval(LAST, agency)) + 1
    brought = [form.format(number) for number in range(first, first + n)]
    path = system.folder / f"brought-{scheme}.ndjson"
    path.write_text("".join(f"{_line(code, agency)}\n" for code in brought), "utf-8")
    token = json.loads((system.folder / ".hoso24" / "up.json").read_text("utf-8"))["token"]
    port, admin = free_port(), free_port()
    environ = {
        **system.environ,
        "HOSO24_CLIENT_WRITES": "1000000",
        "HOSO24_CODE_SCHEME": scheme,
        "HOSO24_INTAKE_PORT": str(port),
        "HOSO24_INTAKE_ADMIN_PORT": str(admin),
    }
    log = system.folder / f"intake-{scheme}.log"
    with started([*HOSO24, "intake"], core=None, log=log, environ=environ, cwd=system.folder) as process:
        ready = f"http://127.0.0.1:{admin}/readyz"
        wait_until(lambda: fetch(ready).status == 200, "the intake", seconds=READY_SECONDS, process=process, log=log)
        began = time.perf_counter()
        received, status = asyncio.run(_both(system, path, port, token, agency, clients))
        seconds = time.perf_counter() - began
    waits = sorted(received.waits)
    of = [1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99, 1.0)]
    print(f"{scheme:<8}{seconds:>9.1f}{len(waits):>12,}{of[0]:>11.1f}{of[1]:>9.1f}{of[2]:>12.1f}", flush=True)
    return _faults(system, path, brought, received, status)


async def _both(
    system: Installation, path: Path, port: int, token: str, agency: str, clients: int
) -> tuple[Received, int]:
    """What the clients saw from the start of the import until its end, and the import's exit status."""
    received = Received()
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Client.of(port)) for _ in range(clients)]
        await asyncio.gather(*(_receive(received, line, token, agency) for line in lines))  # connections are made
        received.waits.clear()
        importing = asyncio.create_task(
            finished(*HOSO24, "import", str(path), environ=system.environ, seconds=IMPORT_SECONDS)
        )

        async def client(line: Client) -> None:
            while not importing.done():
                await _receive(received, line, token, agency)

        await asyncio.gather(*map(client, lines))
        status, _ = await importing
        await _receive(received, lines[0], token, agency)
    return received, status


async def _receive(received: Received, client: Client, token: str, agency: str) -> None:
    """One dossier; asked for again with the same key while it is not known whether it was recorded."""
    began, asked = time.perf_counter(), _reception(token, agency)
    answer = await client.ask(asked)
    while answer.status == 503 or (answer.status == 409 and b"still_running" in answer.body):
        await asyncio.sleep(REPEAT_SECONDS)
        answer = await client.ask(asked)
    received.waits.append(time.perf_counter() - began)
    if answer.status == 201:
        received.codes.append(json.loads(answer.body)["code"])
    else:
        received.failures.append(f"a reception was answered {answer.status}: {answer.body[:200]!r}")


def _faults(system: Installation, path: Path, brought: list[str], received: Received, status: int) -> list[str]:
    stored = {row["code"] for row in system.ask("owner", lambda owner: owner.fetch(STORED, brought))}
    run = system.ask("owner", lambda owner: owner.fetchrow(RUN, path.name))
    met = len({*brought} & {*received.codes})
    faults = received.failures[:3]
    if len(received.codes) != len({*received.codes}):
        faults.append("two receptions were given one code")
    if missing := {*brought, *received.codes} - stored:
        faults.append(f"{len(missing)} dossiers are missing, {min(missing)} for one")
    same_agency = {code for code in stored if code.rpartition("-")[0] == received.codes[0].rpartition("-")[0]}
    if orphans := same_agency - {*brought, *received.codes}:
        faults.append(f"nobody was told of {len(orphans)} dossiers, {min(orphans)} for one")
    if (run["taken"], run["already_here"], run["rejected"]) != (len(brought) - met, 0, met):
        faults.append(f"{met} of {len(brought)} codes had been given out; the import counted {dict(run)}")
    if status != bool(met):
        faults.append(f"the import ended with status {status}")
    if (longest := max(received.waits)) > LONGEST_WAIT:
        faults.append(f"a reception waited for {longest:.2f} s")
    return faults


def _reception(token: str, agency: str) -> bytes:
    body = {"agency": agency, "service": SERVICE, "channel": "direct", "applicant": {"name": "Nguyễn Văn Mẫu (hư cấu)"}}
    headers = {
        "Authorization": f"Bearer {token}",
        "Idempotency-Key": str(uuid.uuid4()),
    }
    return request("POST", "/api/v1/dossiers", headers, json.dumps(body).encode())


def _line(code: str, agency: str) -> str:
    at = "2026-11-02T08:00:00+07:00"
    dossier = {
        "code": code,
        "agency": agency,
        "service": SERVICE,
        "channel": "direct",
        "submitted_at": at,
        "applicant": {"name": "Trần Thị Thử (hư cấu)"},
        "steps": [{"at": at, "status": "received"}, {"at": at, "status": "processing"}],
    }
    return json.dumps(dossier, ensure_ascii=False)


if __name__ == "__main__":
    main()
