"""How fast webhooks are delivered, and what receivers that hang do to those that answer.

`python -m tests.intake.measure_webhooks 10000 1000` delivers 10,000 events to a receiver that answers after 30 ms, then
8 events a second for 19 s to ten receivers that answer at once, beside 1,000 that never do. It asserts nothing.
"""

import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import Sender
from intake.partners.changes import newest
from intake.partners.deliver import Deliverer, Standard
from lookup.status import Status
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.stores.postgres import Postgres
from tests.books import append, receive
from tests.conftest import FAST, Database, prepare
from tests.house import new_client
from tests.places import in_memory
from tests.receivers import OK, Delivery, receiving

ADD = """
INSERT INTO webhook (id, client, url, state, epoch, xid, seq)
VALUES ($1, 'partner', $2, $3, $4, $5::xid8, $6)
"""
SLOW = 0.03
GOOD, EVERY, SECONDS = 10, 0.125, 19.0


async def in_order(owner: Any, work: Deliverer, events: int) -> None:
    """All events to one receiver."""
    place = (await newest(owner.fetch))[:3]
    for n in range(events // 100):
        code = f"G99.01.01-261130-{n + 1:05}"
        async with owner.transaction():
            await receive(owner, code)
            for _ in range(99):
                await append(owner, code, status=Status.PROCESSING)

    async def slow(_: Delivery, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SLOW)
        writer.write(OK)
        await writer.drain()

    async with receiving(slow) as receiver:
        await owner.execute(ADD, "measured", receiver.url, "active", *place)
        began, worked = time.monotonic(), time.process_time()
        async with delivering(work):
            await receiver.until(events // 100, within=600)
        seconds, cpu = time.monotonic() - began, time.process_time() - worked
        told = receiver.events
    ordered = all(a[0] < b[0] or (a[0] == b[0] and a[1] < b[1]) for a, b in itertools.pairwise(told))
    print(
        f"{len(told):,} events, {len(receiver.got)} pages, in order: {ordered}; "
        f"{seconds:.1f} s, {cpu:.1f} s of processor time"
    )
    await owner.execute("DELETE FROM webhook")


async def beside_holes(owner: Any, work: Deliverer, holes: int) -> None:
    """The delay of receivers that answer."""
    place = (await newest(owner.fetch))[:3]
    delays: list[float] = []

    async def never(_: Delivery, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async def good(delivery: Delivery, writer: asyncio.StreamWriter) -> None:
        now = datetime.now(UTC)
        times = [datetime.fromisoformat(event["time"]) for event in delivery.content["events"] if "data" in event]
        delays.extend((now - at).total_seconds() for at in times)
        writer.write(OK)
        await writer.drain()

    async with receiving(never) as hole, receiving(good) as receiver:
        await owner.executemany(ADD, [(f"hole{n:06}", hole.url, "active", *place) for n in range(holes)])
        await owner.executemany(ADD, [(f"good{n:06}", receiver.url, "unproven", *place) for n in range(GOOD)])
        async with delivering(work):
            await receiver.until(GOOD)
            code, ends = "G99.01.01-261130-90001", time.monotonic() + SECONDS
            await receive(owner, code)
            while time.monotonic() < ends:
                await append(owner, code, status=Status.PROCESSING)
                await asyncio.sleep(EVERY)
            await asyncio.sleep(1)
    delays.sort()
    shown = ", ".join(
        f"{name} {delays[int(len(delays) * at)] * 1000:.0f} ms" for name, at in (("median", 0.5), ("p95", 0.95))
    )
    print(
        f"{holes:,} that hang ({hole.connections} connections) beside {GOOD} that answer: "
        f"{len(delays):,} events, delay {shown}"
    )


@contextlib.asynccontextmanager
async def delivering(work: Deliverer) -> Any:
    task = asyncio.create_task(work.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def main(events: int, holes: int) -> None:
    """Both, one after the other, on a PostgreSQL of their own."""
    with Reaper() as reaper, tempfile.TemporaryDirectory(dir=in_memory()) as place:
        folder = Path(place)
        folder.chmod(0o755)  # noqa: ASYNC240 - before anything runs
        with PostgresServer.start(folder / "postgres", settings=FAST, reaper=reaper) as server:
            database: Database = await prepare(server.admin_url, "measured")
            await new_client(database, "partner", "G99", ["follow"])
            owner = await asyncpg.connect(database.owner_url)
            postgres = Postgres("postgres", lambda: database.webhooks_url, size=4, deadline=10)
            sender = Sender(Addresses(["127.0.0.0/8"]), user_agent="measured")
            work = Deliverer(postgres, sender, lambda: bytes(32), {"standard": Standard("urn:hoso24:measured")})
            await in_order(owner, work, events)
            await beside_holes(owner, work, holes)
            await sender.close()
            await postgres.close()
            await owner.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
