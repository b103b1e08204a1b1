"""What relay and intake say of themselves while they cannot work: their health reports, metrics and log lines."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import redis.asyncio
from prometheus_client.parser import text_string_to_metric_families

from intake import app as intake_app
from intake.settings import RelaySettings
from loadtests.system.pauses import pause, resume
from lookup.cache import EPOCH_KEY
from ops.http import server
from ops.local.postgres import PostgresServer
from ops.local.valkey import ValkeyServer
from ops.settings import Secret
from ops.stores import calls
from tests.conftest import prepare
from tests.house import intake_settings, until


@dataclass
class Running:
    """A relay or an intake on servers of its own, asked at its admin port."""

    postgres: PostgresServer
    valkey: ValkeyServer
    http: aiohttp.ClientSession
    admin_url: str

    async def health(self) -> dict[str, Any]:
        """The checks of its health report."""
        async with self.http.get(f"{self.admin_url}/health") as answer:
            return dict((await answer.json())["checks"])

    async def metric(self, name: str, **labels: str) -> float:
        """The value of one of its metrics; an error if it exports none of this name."""
        async with self.http.get(f"{self.admin_url}/metrics", headers={"Accept": "text/plain"}) as answer:
            families = list(text_string_to_metric_families(await answer.text()))
        (value,) = [
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ]
        return float(value)

    async def statuses(self) -> dict[str, str]:
        """Each check's status."""
        return {name: check["status"] for name, check in (await self.health()).items()}

    async def is_well(self) -> bool:
        """Whether it leads and all of its checks are good."""
        return await self.metric("relay_leader") == 1 and set((await self.statuses()).values()) == {"ok"}

    async def breaker(self, dependency: str) -> float:
        return await self.metric("hoso24_breaker_open", dependency=dependency)


@pytest.fixture
async def running(fragile: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(calls, "_said", {})  # what stands in the log is not repeated for a minute
    monkeypatch.setattr(calls, "_troubles", {})
    postgres, valkey = fragile()
    database = await prepare(postgres.admin_url, "hoso24")
    settings = RelaySettings(redis_url=Secret(valkey.url), pg_url=Secret(database.relay_url), host="127.0.0.1")
    started = await server.start(await intake_app.build_relay(settings), service="relay", admin_port=0)
    async with aiohttp.ClientSession() as http:
        relay = Running(postgres, valkey, http, f"http://127.0.0.1:{started.admin_port}")
        async with redis.asyncio.Redis.from_url(valkey.url, protocol=2) as client:
            await until(lambda: client.exists(EPOCH_KEY))  # the first delivery
        await until(relay.is_well)
        yield relay
    await started.stop()


@contextlib.contextmanager
def lines(caplog: pytest.LogCaptureFixture, *, at_most: int) -> Any:
    """The messages logged during the block, each once, and no more than these."""
    caplog.set_level(logging.INFO)
    before = len(caplog.records)
    found: list[str] = []
    yield found
    found += [record.message for record in caplog.records[before:]]
    assert len(found) <= at_most, found


async def test_without_postgres_the_relay_does_not_call_itself_well(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def lags() -> bool:
        return await running.metric("relay_lag_seconds") > 6

    with lines(caplog, at_most=4) as said:
        running.postgres.kill()
        await until(lags)
        assert await running.statuses() == {"postgres": "failed", "redis": "ok", "delivery": "failed"}
        assert (await running.metric("relay_leader"), await running.metric("relay_primary_reachable")) == (0, 0)
        assert (await running.breaker("postgres"), await running.breaker("redis")) == (1, 0)
    assert said[-1] == "postgres cannot be reached: connection refused"
    with lines(caplog, at_most=3) as said:
        running.postgres.restart()
        await until(running.is_well)
        assert await running.metric("relay_lag_seconds") < 5
        assert await running.metric("relay_primary_reachable") == 1
        assert await running.breaker("postgres") == 0
    assert [line for line in said if line.startswith("postgres can be used again after ")]


async def test_redis_that_refuses_writes_is_told_as_that_and_the_lag_grows(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    async def lags() -> bool:
        return await running.metric("relay_lag_seconds") > 6

    async with redis.asyncio.Redis.from_url(running.valkey.url, protocol=2) as client:
        with lines(caplog, at_most=2) as said:
            await client.config_set("maxmemory-policy", "noeviction")
            await client.config_set("maxmemory", 1)
            await until(lags)
            checks = await running.health()
            assert (checks["postgres"]["status"], checks["postgres"]["detail"]) == ("ok", "leader")
            assert checks["redis"]["status"] == checks["delivery"]["status"] == "failed"
            assert "refuses" in checks["redis"]["error"]
            assert (await running.metric("relay_leader"), await running.metric("relay_primary_reachable")) == (1, 1)
            assert (await running.breaker("postgres"), await running.breaker("redis")) == (0, 1)
        assert all("refuses" in line for line in said)
        with lines(caplog, at_most=3) as said:
            await client.config_set("maxmemory", 0)
            await until(running.is_well)
        assert [line.partition(" after ")[0] for line in said if " after " in line] == [
            "redis can be used again",
            "The relay delivers again",
        ]
        assert await running.breaker("redis") == 0


async def test_intake_whose_commits_hang_refuses_at_once_and_says_so(fragile: Callable[..., Any]) -> None:
    postgres, valkey = fragile()
    database = await prepare(postgres.admin_url, "hoso24")
    settings = intake_settings(database.writer_url, pg_deadline=0.5, intake_deadline=0.5)
    started = await server.start(await intake_app.build(settings), service="intake", admin_port=0)
    async with aiohttp.ClientSession() as http:
        intake = Running(postgres, valkey, http, f"http://127.0.0.1:{started.admin_port}")

        async def well() -> bool:
            return (
                await intake.statuses() == {"postgres": "ok", "commits": "ok"} and await intake.breaker("postgres") == 0
            )

        async def refusing() -> bool:
            return await intake.breaker("postgres") == 1

        await until(well)
        pause(postgres)
        try:
            await until(refusing)  # without a request
            assert set((await intake.statuses()).values()) == {"failed"}
            token = f"h24_test_{'x' * 43}"
            headers = {"Authorization": f"Bearer {token}"}
            url = f"http://127.0.0.1:{started.port}/api/v1/dossiers"
            details = []
            for _ in range(5):
                async with http.post(url, json={}, headers=headers) as answer:
                    assert answer.status == 503
                    details.append((await answer.json())["detail"])
            assert "postgres did not answer a moment ago." in details
        finally:
            resume(postgres)
        await until(well)
    await started.stop()
