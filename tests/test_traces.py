"""The spans of real processes: of a lookup from the request through the batch to Redis and PostgreSQL, of a change from
the intake's statements to its delivery; no code, no key."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lookup.cache import dossier_key
from ops.observe.tracing import of_request
from tests.conftest import Database
from tests.house import House, intake_at, intake_settings, new_token, until
from tests.ops.test_tracing import Collector, attributes, collector
from tests.processes import Process, process

__all__ = ["collector"]

CALLER = "b7ad6b7169203331"
NAMES = {
    "GET /api/v1/dossiers/{code}",
    "POST /api/v1/lookups",
    "GET /tra-cuu/{code}",
    "wait for an answer",
    "read copies",
    "load",
    "load from the primary",
    "MGET redis",
    "EVALSHA redis",
    "EVAL redis",
    "SELECT postgres",
}
ATTRIBUTES = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "hoso24.source",
    "hoso24.shared",
    "hoso24.batch.size",
    "hoso24.dependency",
    "db.system.name",
    "db.operation.name",
}


def trace(n: int) -> str:
    return f"{n:032x}"


def sampled(n: int) -> dict[str, str]:
    return {"traceparent": f"00-{trace(n)}-{CALLER}-01"}


@dataclass
class Town:
    """A lookup process, three dossiers that are in PostgreSQL only, a proxy of ours and a client that is none."""

    lookup: Process
    receipts: list[dict[str, Any]]
    proxy: aiohttp.ClientSession
    stranger: aiohttp.ClientSession

    async def ask(self, who: aiohttp.ClientSession, path: str, **options: Any) -> Any:
        method = "POST" if "json" in options else "GET"
        async with who.request(method, self.lookup.url + path, **options) as response:
            await response.read()
            return response

    @property
    def codes(self) -> list[str]:
        return [receipt["code"] for receipt in self.receipts]


@contextlib.asynccontextmanager
async def town(
    database: Database, redis_url: str, collector: Collector, output: Path, ratio: str
) -> AsyncIterator[Town]:
    async with contextlib.AsyncExitStack() as stack:
        intake_url = await stack.enter_async_context(intake_at(intake_settings(database.writer_url)))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        house = House("", intake_url, http, await new_token(database))
        receipts = [await house.receive() for _ in range(3)]
        lookup = await stack.enter_async_context(
            process(
                "lookup",
                database,
                redis_url,
                output,
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
                OTEL_TRACES_SAMPLER_ARG=ratio,
                HOSO24_TRUSTED_PROXIES="127.0.0.1/32",
            )
        )
        clients = [
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))
            for address in ("127.0.0.1", "127.0.0.2")
        ]
        proxy, stranger = [await stack.enter_async_context(client) for client in clients]
        yield Town(lookup, receipts, proxy, stranger)


@dataclass
class Tree:
    """The spans of one trace."""

    spans: list[Span]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        (span,) = self.named(name)
        return span

    def children(self, parent: Span) -> list[str]:
        return sorted(span.name for span in self.spans if span.parent_span_id == parent.span_id)


def tree(collector: Collector, n: int) -> Tree:
    return Tree([span for span in collector.spans if span.trace_id.hex() == trace(n)])


def linked(span: Span) -> set[bytes]:
    return {link.span_id for link in span.links}


async def test_one_trace_from_the_request_to_the_databases(
    database: Database, redis_url: str, collector: Collector, tmp_path: Path
) -> None:
    async with town(database, redis_url, collector, tmp_path / "output", "0") as there:
        one, two, three = there.codes
        key = there.receipts[1]["lookup_key"]
        await there.ask(there.proxy, f"/api/v1/dossiers/{one}", headers=sampled(1))
        wanted = {"dossiers": [{"code": two, "key": key}, {"code": three}]}
        await there.ask(there.proxy, "/api/v1/lookups", headers=sampled(2), json=wanted)
        await there.ask(there.proxy, f"/tra-cuu/{two}", headers=sampled(3) | {"Cookie": f"hoso24-key={key}"})
        await there.ask(there.proxy, f"/api/v1/dossiers/{one}", headers=sampled(4) | {"Hoso24-Key": key})
        await there.ask(there.proxy, f"/api/v1/dossiers/{two}?at_least=7", headers=sampled(5) | {"X-Request-Id": two})
        # Nothing of these: not sampled by whom we trust, sampled by a client we do not, or our own ratio, which is 0.
        await there.ask(there.proxy, f"/api/v1/dossiers/{one}", headers={"traceparent": f"00-{trace(6)}-{CALLER}-00"})
        await there.ask(there.stranger, f"/api/v1/dossiers/{one}", headers=sampled(7))
        await there.ask(there.stranger, f"/api/v1/dossiers/{two}", headers=sampled(8) | {"Hoso24-Key": key})
        await there.ask(there.stranger, f"/api/v1/dossiers/{three}")
    assert {span.trace_id.hex() for span in collector.spans} == {trace(n) for n in range(1, 6)}
    assert {span.name for span in collector.spans} <= NAMES
    assert {name for span in collector.spans for name in attributes(span)} <= ATTRIBUTES
    _no_dossier_is_named(collector, there)

    first = tree(collector, 1)
    server, wait = first.one("GET /api/v1/dossiers/{code}"), first.one("wait for an answer")
    copies, load = first.one("read copies"), first.one("load")
    assert (server.parent_span_id.hex(), server.kind) == (CALLER, Span.SPAN_KIND_SERVER)
    assert first.children(server) == ["wait for an answer"]
    assert first.children(wait) == ["load", "read copies"]
    assert first.children(copies) == ["MGET redis"]
    assert [name.partition(" ")[0] for name in first.children(load)] in (
        ["EVAL", "EVALSHA", "SELECT"],
        ["EVALSHA", "SELECT"],
    )
    assert linked(copies) == linked(load) == {wait.span_id}
    assert linked(wait) == {copies.span_id, load.span_id}
    assert attributes(wait)["hoso24.source"] == "postgres"
    assert attributes(first.one("SELECT postgres")) == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "hoso24.dependency": "postgres",
    }

    second = tree(collector, 2)
    waits = {span.span_id for span in second.named("wait for an answer")}
    assert len(waits) == 2
    for batch in (second.one("read copies"), second.one("load")):
        assert linked(batch) == waits
        assert batch.parent_span_id in waits
        assert attributes(batch)["hoso24.batch.size"] == 2

    assert tree(collector, 5).one("load from the primary")


def _no_dossier_is_named(collector: Collector, there: Town) -> None:
    names = [*there.codes, *(receipt["lookup_key"] for receipt in there.receipts)]
    for name in names:
        for spelling in (name, name.replace("-", ""), name.rpartition("-")[2]):
            assert not [body for body in collector.bodies if spelling.encode() in body], spelling


async def test_stranger_gets_a_new_trace_at_our_ratio(
    database: Database, redis_url: str, collector: Collector, tmp_path: Path
) -> None:
    answers = []
    async with town(database, redis_url, collector, tmp_path / "output", "1") as there:
        for path in ("/api/v1/dossiers/", "/tra-cuu/"):
            address = path + there.codes[0]
            await there.ask(there.proxy, address, headers=sampled(1))
            answers += [await there.ask(there.stranger, address, headers=headers) for headers in (sampled(2), {})]
        pages = {}
        for accept in ("application/openmetrics-text; version=1.0.0", "text/plain", "*/*"):
            async with there.proxy.get(f"{there.lookup.admin_url}/metrics", headers={"Accept": accept}) as page:
                pages[accept] = (page.content_type, await page.text())
    servers = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    begun_here = [span for span in servers if span.trace_id.hex() != trace(1)]
    assert len(servers) - len(begun_here) == 2
    assert [span.trace_id.hex() for span in begun_here] == [
        of_request(each.headers["X-Request-Id"]) for each in answers
    ]
    assert not [span for span in begun_here if span.parent_span_id]

    (kind, openmetrics), (plain_kind, plain), _ = pages.values()
    assert (kind, plain_kind) == ("application/openmetrics-text", "text/plain")
    assert openmetrics.endswith("# EOF\n")
    assert begun_here[-1].trace_id.hex() in openmetrics
    assert "trace_id" not in plain
    assert pages["*/*"][0] == "text/plain"


STATEMENTS = [
    "BEGIN",
    "SELECT epoch",
    "UPDATE idempotency",
    "INSERT daily_sequence",
    "SELECT dossier",
    "SELECT applicant_search",
    "INSERT event",
    "INSERT task",
    "INSERT idempotency",
    "COMMIT",
]


async def test_change_is_followed_from_the_intake_s_statements_to_its_delivery(
    database: Database, redis_url: str, collector: Collector, tmp_path: Path
) -> None:
    """The relay's span names the events of its batch; the intake's span names the event it has written."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "HOSO24_PG_RELAY_URL": database.relay_url}
    environ |= {"OTEL_TRACES_SAMPLER_ARG": "0.001", "HOSO24_TRUSTED_PROXIES": "127.0.0.1/32"}
    token = await new_token(database)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(process("relay", database, redis_url, tmp_path / "relay", **environ))
        intake = await stack.enter_async_context(process("intake", database, redis_url, tmp_path / "intake", **environ))
        http = await stack.enter_async_context(aiohttp.ClientSession(headers=sampled(1)))
        house = House("", intake.url, http, token)
        receipt = await house.receive()
        follower = await stack.enter_async_context(redis.asyncio.Redis.from_url(redis_url, protocol=2))
        await until(lambda: follower.exists(dossier_key(1, receipt["code"])))
    change = tree(collector, 1)
    server, transaction = change.one("POST /api/v1/dossiers"), change.one("transaction postgres")
    assert transaction.parent_span_id == server.span_id
    statements = [span for span in change.spans if span.parent_span_id == transaction.span_id]
    # By their ends: asyncpg reports a statement a turn of the loop after it, and its span is that much late.
    assert [span.name for span in sorted(statements, key=lambda span: span.end_time_unix_nano)] == STATEMENTS
    assert attributes(change.one("INSERT event")) == {
        "db.system.name": "postgresql",
        "db.operation.name": "INSERT",
        "db.collection.name": "event",
    }
    (delivery,) = [span for span in collector.spans if span.name == "deliver changes"]
    events = [value.string_value for value in _attribute(delivery, "hoso24.events").array_value.values]
    assert events == [attributes(server)["hoso24.event"]]
    below = {span.name for span in collector.spans if span.parent_span_id == delivery.span_id}
    assert below in ({"EVALSHA redis"}, {"EVALSHA redis", "EVAL redis"})
    for name in (receipt["code"], receipt["code"].replace("-", ""), receipt["lookup_key"], "Nguyễn"):
        assert not [body for body in collector.bodies if name.encode() in body]


def _attribute(span: Span, name: str) -> Any:
    (value,) = [attribute.value for attribute in span.attributes if attribute.key == name]
    return value
