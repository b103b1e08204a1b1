"""Measures notices against a mail server in this process: how many go out a second, and how soon after their commit.

    python -m tests.intake.measure_notices [--notices 3000] [--seconds 15] [--rate 20]

Starts PostgreSQL (without fsync) for itself. The mail server takes part in the measured machine's time.
"""

import argparse
import asyncio
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from tests.conftest import FAST, prepare
from tests.intake.told import CODE, address_of, receive, smtp, telling
from tests.mailbox import OK, mailbox
from tests.places import in_memory


async def measure(admin_url: str, notices: int, seconds: float, rate: float) -> None:
    """Print both figures."""
    database = await prepare(admin_url, "measured")
    owner = await asyncpg.connect(database.owner_url)
    for number in range(notices):
        await receive(owner, number)
    async with mailbox() as box:
        began = time.monotonic()
        async with telling(database, smtp(box.url), look_every=0.25):
            await box.until(notices, within=120)
            took = time.monotonic() - began
    print(f"{notices} notices in {took:.1f} s: {notices / took:.0f} a second, over {box.connections} connections")

    committed: dict[str, float] = {}
    delays: list[float] = []

    def taken(to: str) -> str:
        delays.append(time.monotonic() - committed[to])
        return OK

    async with mailbox(data=taken) as box, telling(database, smtp(box.url), look_every=0.25):
        await asyncio.sleep(1.0)
        number, ends = notices, time.monotonic() + seconds
        while time.monotonic() < ends:
            committed[address_of(CODE.format(number))] = time.monotonic()  # before: the commit is in it
            await receive(owner, number)
            number += 1
            await asyncio.sleep(1 / rate)
        await box.until(number - notices, within=30)
    cuts = statistics.quantiles(delays, n=100)
    print(
        f"{len(delays)} notices at {len(delays) / seconds:.0f} a second, from before the commit to the mail's end: "
        f"median {statistics.median(delays):.2f} s, p99 {cuts[98]:.2f} s, longest {max(delays):.2f} s"
    )
    await owner.close()


def main(argv: Any = None) -> None:
    """Start PostgreSQL and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--notices", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=20.0)
    wanted = parser.parse_args(argv)
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    with Reaper() as reaper, tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        place = Path(folder)
        place.chmod(0o755)
        with PostgresServer.start(place / "postgres", settings=FAST, reaper=reaper) as server:
            asyncio.run(measure(server.admin_url, wanted.notices, wanted.seconds, wanted.rate))


if __name__ == "__main__":
    main()
