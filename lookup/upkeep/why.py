"""`hoso24 why`: what memory, Redis, each standby and the primary hold for one code, to explain an answer.

The lookup process reports its memory, feed and breakers on its admin port. Redis and each PostgreSQL host are read
directly, with the lookup's settings. None of it contains an applicant's data.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from lookup import code as codes
from lookup.cache import Cache, dossier_key
from lookup.clock import VIETNAM, DatabaseClock, Micros, moment
from lookup.code import DossierCode, MalformedCode
from lookup.codes_in_logs import canonical, pseudonym
from lookup.dossier import unpack
from lookup.reading.freshness import SECOND
from lookup.reading.hosts import Host, Hosts, Role
from lookup.reading.memory import Memory
from lookup.reading.store import DOSSIERS, packed
from lookup.reading.vitals import Vitals
from lookup.settings import LookupSettings
from lookup.status import Status
from ops.errors import Unavailable
from ops.http.probes import Report
from ops.observe.redaction import hashes_by
from ops.stores.redis import Redis

DEADLINE = 3.0
"""Timeout of each source, in seconds; long, because an operator is looking into a fault."""
LATE = 2 * SECOND
"""Age in microseconds from which a heartbeat is called late."""


def process_report(memory: Memory, vitals: Vitals, hosts: Hosts) -> Report:
    """The report of a lookup process on its state and on the code in `?code=`."""

    def report(parameters: Mapping[str, str]) -> object:
        code, feed, now = parameters.get("code", ""), vitals.feed, vitals.clock.now()
        copy = memory.look(code)
        return {
            "now": now,
            "code_hash": pseudonym(code),
            "copy": copy
            and {
                "version": copy.version,
                "as_of": feed.as_of(copy),
                "removed": not copy.body,
                "trusted": feed.vouches_for(copy, now),
                "leans": copy.trusted != 0,
                "verified": copy.generation == feed.generation,
                "rendered": memory.finished(code) is not None,
            },
            "floor": feed.floors.of(code),
            "memory": {"copies": len(memory), "bytes": memory.used},
            "feed": {
                "epoch": feed.epoch,
                "generation": feed.generation,
                "position": feed.position,
                "stream": feed.stream_name.decode(),
                "at": feed.at,
                "silent": feed.silent,
            },
            "breakers": {
                "redis": vitals.redis.open,
                **{host.name: host.breaker.open for host in hosts.all},
            },
            "roles": {host.name: host.role.value for host in hosts.all},
            "shedding": vitals.shedding.level,
        }

    return report


class SourceRow(NamedTuple):
    """One source's state. `as_of` is 0 for unknown; `version` None when it did not answer."""

    where: str
    version: int | None
    as_of: Micros
    status: str
    remark: str


@dataclass
class Findings:
    """All results, ready to be shown."""

    code: DossierCode
    now: Micros
    rows: list[SourceRow]
    process: Mapping[str, Any] | None
    stream_end: str
    stream_at: int
    epochs: Mapping[str, int]
    code_hashes: list[str] = field(default_factory=list)
    """The code's hashes in the log, one for each known key; empty if only a process that did not answer has one."""


async def tell(typed: str, admin: str, settings: LookupSettings, console: Console) -> bool:
    """Read all sources and print one screen. False when the text is no code, or no source answered."""
    try:
        code = codes.parse(typed)
    except MalformedCode as problem:
        console.print(f"{typed!r} is not a dossier code: {problem.detail}")
        return False
    findings = await find_out(code, admin, settings)
    for part in show(findings, admin):
        console.print(part, highlight=False)
    return any(row.version is not None for row in findings.rows)


async def find_out(code: DossierCode, admin: str, settings: LookupSettings) -> Findings:
    """Read all sources concurrently; a source that does not answer gets a row that says why."""
    clock = DatabaseClock()
    hosts = Hosts(settings.pg_url.reveal, clock, size=1, deadline=DEADLINE, pooled=settings.pg_pooled)
    redis = Redis("redis", settings.redis_url.reveal, size=2, deadline=DEADLINE)
    try:
        process, *of_hosts = await asyncio.gather(
            _ask_process(code, admin), *(_ask_host(host, code) for host in hosts.all)
        )
        epochs = {row.where: epoch for row, epoch in of_hosts if epoch}
        if process is not None:
            epochs["this lookup"] = int(process["feed"]["epoch"])
        epoch = max(epochs.values(), default=1)
        cached, stream_end, stream_at = await _ask_redis(Cache(redis), epoch, code)
        rows = [_of_memory(process, admin), cached, *(row for row, _ in of_hosts)]
        hashes = _code_hashes(code, process, settings)
        return Findings(code, clock.now(), rows, process, stream_end, stream_at, epochs, hashes)
    finally:
        await hosts.close()
        await redis.close()


def show(findings: Findings, admin: str) -> Iterator[Any]:
    """The screen, part by part: a table, the feed, the breakers, and advice."""
    table = Table(title=f"Dossier {findings.code.text}", title_justify="left")
    for column in ("where", "version", "as of", "age", "status", "remark"):
        table.add_column(column, justify="right" if column in ("version", "age") else "left", overflow="fold")
    for row in findings.rows:
        version = "–" if row.version is None else str(row.version)
        table.add_row(row.where, version, _clock_time(row.as_of), _age(findings, row.as_of), row.status, row.remark)
    yield table
    if findings.process is not None:
        yield from _about_process(findings, findings.process)
    if findings.code_hashes:
        newest, *older = findings.code_hashes
        yield f"log       lines about this code have code_hash {newest}"
        yield from (f"          or, under another key, {each}" for each in older)
    yield from _advice(findings, admin)


def _code_hashes(code: DossierCode, process: Mapping[str, Any] | None, settings: LookupSettings) -> list[str]:
    """The process's hash first: it read its key at its start, and the file may contain another one now."""
    own = [] if process is None else [str(process["code_hash"])]
    keys = "" if settings.log_hash_key is None else settings.log_hash_key.reveal()
    return list(dict.fromkeys([*own, *hashes_by(keys, canonical(code.text))]))


async def _ask_process(code: DossierCode, admin: str) -> Mapping[str, Any] | None:
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{admin.rstrip('/')}/reports/why", params={"code": code.text}) as response,
        ):
            if response.status != 200:
                return None
            report: Mapping[str, Any] = msgspec.json.decode(await response.read())
            return report
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return None


async def _ask_host(host: Host, code: DossierCode) -> tuple[SourceRow, int]:
    try:
        rows = await host.postgres.fetch(DOSSIERS, [code.text])
    except Unavailable as away:
        return SourceRow(host.name, None, 0, "", away.reason or away.detail), 0
    first = rows[0]
    role = Role.STANDBY if first["standby"] else Role.PRIMARY
    as_of = int(first["as_of"].timestamp() * SECOND)
    name = f"{host.name}, {role.value}"
    if len(rows) == 1:
        return SourceRow(name, 0, as_of, "", "no such dossier here"), first["epoch"]
    body = packed(rows[1])
    return SourceRow(name, rows[1]["version"], as_of, _status(body), "" if body else "removed"), first["epoch"]


async def _ask_redis(cache: Cache, epoch: int, code: DossierCode) -> tuple[SourceRow, str, int]:
    key = dossier_key(epoch, code.text)
    try:
        read = await cache.read(epoch, [key])
        seconds = await cache.time_to_live(key)
        end = await cache.join(epoch)
    except Unavailable as away:
        return SourceRow("Redis", None, 0, "", away.reason or away.detail), "", 0
    (entry,) = read.entries
    if entry is None:
        return SourceRow("Redis", 0, 0, "", "no copy"), end.last, end.feed_at
    leans = "leans on the feed" if entry.leans else "ages by itself"
    what = "" if entry.version else "“no such dossier”, "
    row = SourceRow("Redis", entry.version, entry.as_of, _status(entry.body), f"{what}{leans}, expires in {seconds} s")
    return row, end.last, end.feed_at


def _of_memory(process: Mapping[str, Any] | None, admin: str) -> SourceRow:
    if process is None:
        return SourceRow("memory", None, 0, "", f"no lookup answers at {admin}")
    copy = process["copy"]
    if copy is None:
        return SourceRow("memory", 0, 0, "", "no copy")
    words = ["leans on the feed" if copy["leans"] else "ages by itself"]
    if copy["trusted"]:
        words.append("trusted")
    elif not copy["verified"]:
        words.append("to be verified before it is served")
    if copy["removed"]:
        words.append("removed")
    return SourceRow("memory", copy["version"], copy["as_of"], "", ", ".join(words))


def _about_process(findings: Findings, process: Mapping[str, Any]) -> Iterator[str]:
    feed = process["feed"]
    behind = "" if feed["position"] == findings.stream_end else f", the stream ends with {findings.stream_end or '–'}"
    age = max(0, process["now"] - feed["at"]) / SECOND
    heartbeat = f"{age:.1f} s old" if feed["at"] else "never seen"
    yield (
        f"feed      epoch {feed['epoch']}, generation {feed['generation']}, at {feed['position'] or '–'}{behind}; "
        f"heartbeat {heartbeat}{', silent' if feed['silent'] else ''}"
    )
    yield "breakers  " + ", ".join(
        f"{name} {'OPEN' if is_open else 'closed'}" for name, is_open in process["breakers"].items()
    )
    memory = process["memory"]
    yield (
        f"memory    {memory['copies']:,} copies, {memory['bytes'] / 2**20:.1f} MiB; floor of this code "
        f"{process['floor'] or 'none'}; shedding level {process['shedding']}"
    )


def _advice(findings: Findings, admin: str) -> Iterator[str]:
    """Conclusions from the versions, each with the next step."""
    versions = {row.where: row.version for row in findings.rows if row.version is not None}
    primary = next((row.version for row in findings.rows if row.where.endswith(Role.PRIMARY.value)), None)
    if findings.process is None:
        yield f"→ No lookup answers at {admin}: give the admin port of a running lookup with --admin."
    if len(set(findings.epochs.values())) > 1:
        epochs = ", ".join(f"{who} in {epoch}" for who, epoch in findings.epochs.items())
        yield f"→ The epochs differ ({epochs}). After `hoso24 cache renew` that lasts about a second."
    if primary is None:
        yield "→ The primary could not be asked, so nothing tells which copy is current: run `hoso24 doctor`."
        return
    if primary == 0 and not any(versions.values()):
        yield "→ No such dossier anywhere: compare the code with the receipt; intake has not registered this one."
        return
    ahead = [where for where, version in versions.items() if version > primary]
    if ahead:
        who = ", ".join(ahead)
        yield f"→ {who} is ahead of the primary: it was restored. See relay_halted, then run `hoso24 cache renew`."
    for where, version in versions.items():
        if 0 < version < primary:
            yield f"→ {where} has version {version}, the primary {primary}: {_reason(where, findings)}"
    if not ahead and all(version in (0, primary) for version in versions.values()):
        yield f"→ All copies have version {primary}."


def _reason(where: str, findings: Findings) -> str:
    if where == "memory":
        return "the next lookup verifies it, unless the feed is behind (see above)."
    if where == "Redis":
        late = findings.now - findings.stream_at
        if late > LATE:
            return f"the relay's last heartbeat is {late / SECOND:.0f} s old: is a relay leading? See relay_leader."
        return "the change is not delivered yet, or its transaction waits for an older one that is still open."
    return "replication lags; look at pg_stat_replication on the primary."


def _status(body: bytes) -> str:
    if not body:
        return ""
    try:
        return Status(unpack(body).status).slug
    except (msgspec.DecodeError, ValueError):
        return "unreadable"


def _clock_time(as_of: Micros) -> str:
    return f"{moment(as_of).astimezone(VIETNAM):%d/%m %H:%M:%S}" if as_of else "–"


def _age(findings: Findings, as_of: Micros) -> str:
    return f"{max(0, findings.now - as_of) / SECOND:.1f} s" if as_of else "–"
