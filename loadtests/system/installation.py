"""A house in a temporary directory, full of dossiers: its Postgres, its Redis, its relay, its own lookup left idle."""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import redis

from loadtests.bench import dossiers
from loadtests.bench.peers.answer import answer, key
from loadtests.system.processes import HOSO24, OTHER_CORE, POLL_SECONDS, CannotMeasure, get, started, wait_until

T = TypeVar("T")

FIND_MANY = """
SELECT code, version, status, due_at
  FROM dossier
 WHERE code = ANY ($1)
"""

START_SECONDS = 120.0
RELAY_SECONDS = 30.0
ANSWERS_AT_ONCE = 1000
KEPT_SECONDS = 86_400


@dataclass(frozen=True)
class House:
    """A running house. `environ` is what its processes run with."""

    folder: Path
    pid: int
    lookup: str
    postgres: dict[str, str]
    redis: str
    environ: dict[str, str]

    def ask(self, role: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do some work on a connection of that role's."""

        async def connected() -> T:
            connection = await asyncpg.connect(self.postgres[role])
            try:
                return await work(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())

    def empty_redis(self) -> None:
        """Remove every key, and return once the relay has written its own again."""
        with redis.Redis.from_url(self.redis) as client:
            client.flushall()
            deadline = time.monotonic() + RELAY_SECONDS
            while not client.dbsize():
                if time.monotonic() > deadline:
                    raise CannotMeasure(f"The relay wrote nothing into the empty Redis within {RELAY_SECONDS:.0f} s.")
                time.sleep(POLL_SECONDS)

    def evicted(self) -> int:
        """How many keys Redis has given up for want of memory since it started."""
        with redis.Redis.from_url(self.redis) as client:
            return int(client.info("stats")["evicted_keys"])

    def put_answers(self, codes: Sequence[str]) -> None:
        """Put the peers' finished answers into Redis."""

        async def put(reader: Any) -> None:
            with redis.Redis.from_url(self.redis) as client:
                for start in range(0, len(codes), ANSWERS_AT_ONCE):
                    pipeline = client.pipeline(transaction=False)
                    for row in await reader.fetch(FIND_MANY, codes[start : start + ANSWERS_AT_ONCE]):
                        pipeline.set(key(row["code"]), answer(row), ex=KEPT_SECONDS)
                    pipeline.execute()

        self.ask("reader", put)

    def expected(self, code: str) -> bytes:
        """What this house's own lookup answers."""
        status, body = get(f"{self.lookup}/api/v1/dossiers/{code}")
        if status != 200:
            raise CannotMeasure(f"The lookup answers {status or 'nothing'} for {code}, which is in the database.")
        return body


@contextmanager
def furnished(count: int, say: Callable[[str], None]) -> Iterator[House]:
    """A house with `count` dossiers, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="hoso24-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started as root, Postgres runs as somebody else, who has to get in
        with _up(folder) as house:
            say(f"Writing {count:,} dossiers into Postgres (about {count / 15_000:.0f} s) …")
            house.ask("owner", lambda owner: dossiers.write(owner, count))
        # CHECKPOINT is not the owner's to ask for; stopping Postgres makes one, and leaves nothing to write later.
        say("Starting Postgres once more, which leaves it nothing to write …")
        with _up(folder) as house:
            house.empty_redis()
            yield house


@contextmanager
def _up(folder: Path) -> Iterator[House]:
    log, there = folder / "up.log", folder / ".hoso24"
    with started([*HOSO24, "up", "--no-samples"], core=OTHER_CORE, cwd=folder, log=log) as process:
        wait_until((there / "up.json").exists, "hoso24 up", seconds=START_SECONDS, process=process, log=log)
        up = json.loads((there / "up.json").read_text("utf-8"))
        lines = (there / "environ").read_text("utf-8").splitlines()
        environ = {name: value for name, _, value in (line.partition("=") for line in lines)}
        yield House(folder, process.pid, up["lookup"], up["postgres"], up["redis"], environ)
