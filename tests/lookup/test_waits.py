"""Who is sampled sees where it waited; who is not makes no spans, and a batch of such people neither."""

import asyncio

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lookup.cache import Cache
from lookup.reading.read_through import ReadThrough
from ops.observe import tracing
from tests.house import until
from tests.lookup.test_reader import CODE, Database, cache, database, reader
from tests.ops.test_tracing import Collector, attributes, collector

__all__ = ["cache", "collector", "database"]

OTHER = "G99.01.01-261120-0002"


async def lookup(through: ReadThrough, code: str, *, sampled: bool = True) -> str:
    """As a request does it; its trace."""
    with tracing.server_span("GET", "/x", {}) if sampled else tracing.untraced() as span:
        await through.get(code)
        return tracing.trace_id(span) or ""


def spans(collector: Collector, name: str) -> list[Span]:
    return [span for span in collector.spans if span.name == name]


async def test_batch_has_links_to_all_the_sampled_it_served(
    cache: Cache, database: Database, collector: Collector
) -> None:
    traces = tracing.configure("sample")
    database.rows = {CODE: (1, b"one"), OTHER: (1, b"other")}
    through = reader(cache, database)
    asked = [(CODE, True), (OTHER, False), (OTHER, True), (CODE, True)]
    served = await asyncio.gather(*(lookup(through, code, sampled=sampled) for code, sampled in asked))
    await asyncio.to_thread(traces.shutdown)

    waits = {span.trace_id.hex(): span for span in spans(collector, "wait for an answer")}
    assert set(waits) == set(served) - {""}
    for name in ("read copies", "load"):
        (batch,) = spans(collector, name)
        assert {link.trace_id.hex() for link in batch.links} == set(waits)
        assert batch.parent_span_id == waits[batch.trace_id.hex()].span_id
        assert attributes(batch)["hoso24.batch.size"] == 2
        assert all(batch.span_id in {link.span_id for link in wait.links} for wait in waits.values())


async def test_batch_without_a_sampled_request_makes_no_span(
    cache: Cache, database: Database, collector: Collector
) -> None:
    """Not even while a sampled request waits for another batch."""
    traces = tracing.configure("sample")
    database.rows = {CODE: (1, b"one"), OTHER: (1, b"other")}
    database.gate = asyncio.Event()
    through = reader(cache, database)
    waiting = asyncio.create_task(lookup(through, CODE))
    await database.was_asked.wait()
    others = asyncio.create_task(lookup(through, OTHER, sampled=False))

    async def both_asked() -> bool:
        return len(database.asked) == 2

    await until(both_asked)
    database.gate.set()
    await asyncio.gather(waiting, others)
    await asyncio.to_thread(traces.shutdown)
    assert len(spans(collector, "load")) == len(spans(collector, "MGET redis")) == 1


async def test_batch_that_a_sampled_request_began_without_waiting_for_it_is_not_in_its_trace(
    cache: Cache, database: Database, collector: Collector
) -> None:
    traces = tracing.configure("sample")
    database.rows = {CODE: (1, b"one")}
    through, arrived = reader(cache, database), asyncio.Event()
    with tracing.server_span("GET", "/x", {}):
        through.want(CODE, lambda _: arrived.set())
        await arrived.wait()
    await asyncio.to_thread(traces.shutdown)
    assert [span.name for span in collector.spans] == ["GET /x"]


async def test_latecomer_of_a_batch_is_linked_too(cache: Cache, database: Database, collector: Collector) -> None:
    traces = tracing.configure("sample")
    database.rows = {CODE: (1, b"one")}
    database.gate = asyncio.Event()
    through = reader(cache, database)
    early = asyncio.create_task(lookup(through, CODE))
    await database.was_asked.wait()
    late = asyncio.create_task(lookup(through, CODE))

    async def both_wait() -> bool:
        return sum(map(len, through._waits._spans.values())) == 2

    await until(both_wait)
    database.gate.set()
    served = {await early, await late}
    await asyncio.to_thread(traces.shutdown)
    (load,) = spans(collector, "load")
    assert {link.trace_id.hex() for link in load.links} == served
    shared = {span.trace_id.hex(): attributes(span)["hoso24.shared"] for span in spans(collector, "wait for an answer")}
    assert shared == {await early: 0, await late: 1}
    assert not through._waits._spans


async def test_without_a_sampled_request_tracing_costs_one_look(
    cache: Cache, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.rows = {CODE: (1, b"one")}
    for name in ("_wait", "_batch"):
        monkeypatch.setattr(tracing.Waits, name, None)
    monkeypatch.setattr(tracing, "_span", None)
    assert (await reader(cache, database).get(CODE)).entry.body == b"one"
