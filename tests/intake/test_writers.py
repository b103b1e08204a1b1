"""Whose transactions hold delivery up: since when each is seen, when it is named, and whose session is ended."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from intake import metrics
from intake.books.writers import END_READERS, NAMED_SECONDS, READERS_SECONDS, OpenWriters


class Postgres:
    """Has these open transactions, and ends sessions if it may."""

    def __init__(self) -> None:
        self.open: list[dict[str, Any]] = []
        self.ends: list[dict[str, Any]] = []
        self.asked_to_end: list[list[str]] = []

    def opens(self, *xids: str) -> None:
        self.open = [{"xid": xid, "pid": int(xid), "role": "hoso24_writer", "application": "import"} for xid in xids]

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        if sql == END_READERS:
            self.asked_to_end.append(list(arguments[0]))
            return self.ends
        return self.open


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("intake.books.writers.time.monotonic", lambda: now[0])
    return now


def oldest() -> float | None:
    return REGISTRY.get_sample_value("relay_oldest_writer_seconds")


def named() -> dict[str, float]:
    """Seconds by pid of the transactions that are named."""
    (family,) = metrics.WRITER.collect()
    return {sample.labels["pid"]: sample.value for sample in family.samples}


async def test_transaction_is_timed_since_it_was_first_seen_and_named_once_it_is_long(clock: list[float]) -> None:
    postgres, seen = Postgres(), OpenWriters()
    postgres.opens("7")
    await seen.look(postgres.fetch)
    clock[0] += NAMED_SECONDS - 1
    postgres.opens("7", "8")
    await seen.look(postgres.fetch)
    assert (oldest(), named()) == (NAMED_SECONDS - 1, {})
    clock[0] += 1
    await seen.look(postgres.fetch)
    assert (oldest(), named()) == (NAMED_SECONDS, {"7": NAMED_SECONDS})
    postgres.opens("8")
    await seen.look(postgres.fetch)
    assert (oldest(), named()) == (1, {})


async def test_relay_that_leads_no_more_forgets_what_it_saw(clock: list[float]) -> None:
    postgres, seen = Postgres(), OpenWriters()
    postgres.opens("7")
    await seen.look(postgres.fetch)
    clock[0] += NAMED_SECONDS
    await seen.look(postgres.fetch)
    seen.stop()
    assert (oldest(), named()) == (0, {})
    await seen.look(postgres.fetch)
    assert (oldest(), named()) == (0, {})


async def test_readers_are_ended_after_two_seconds_and_a_refusal_is_told_once(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    postgres, seen = Postgres(), OpenWriters()
    postgres.opens("7")
    await seen.look(postgres.fetch)
    clock[0] += READERS_SECONDS - 0.1
    await seen.look(postgres.fetch)
    assert postgres.asked_to_end == []
    before = REGISTRY.get_sample_value("relay_readers_ended_total") or 0
    clock[0] += 0.1
    postgres.ends = [{"pid": 7, "ended": True}]
    await seen.look(postgres.fetch)
    assert postgres.asked_to_end == [["7"]]
    assert REGISTRY.get_sample_value("relay_readers_ended_total") == before + 1
    (line,) = caplog.messages
    assert line.startswith("Ended a session of hoso24_reader")
    postgres.ends = [{"pid": 7, "ended": False}]
    for _ in range(3):
        await seen.look(postgres.fetch)
    assert REGISTRY.get_sample_value("relay_readers_ended_total") == before + 1
    assert len(caplog.messages) == 2
    assert "may not end it" in caplog.messages[1]
