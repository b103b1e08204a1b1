"""Makes a house cold: its lookup is started anew and its Redis emptied, as after a failure of everything but Postgres.

The only part of a load test that does more than speak HTTP, and only to what `make up` runs on this machine: there a
lookup that ends is started again.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import redis

from loadtests.system.http_client import fetch
from loadtests.target import MORE_HOSTS, House, NoHouse, refuse_strangers

PATIENCE = 60.0
"""Seconds the lookup may take to end, and again to be ready anew."""


def make_cold(house: House, environ: Mapping[str, str]) -> None:
    """Stop the lookup, empty Redis, and return when the lookup is ready again. Raises NoHouse where that cannot be."""
    if house.redis is None or house.lookup_admin is None:
        raise NoHouse("A cold start needs a house of `make up` on this machine: only that is started anew.")
    refuse_strangers(house.redis, environ.get(MORE_HOSTS, ""), schemes=("redis", "rediss"))
    lookup = _lookup(urlsplit(house.lookup).port)
    try:
        lookup.terminate()
        lookup.wait(PATIENCE)
        with redis.Redis.from_url(house.redis) as server:
            server.flushdb()
    except (psutil.Error, redis.RedisError) as error:
        raise NoHouse(f"The house cannot be made cold: {type(error).__name__}: {error}.") from None
    _wait_until_ready(house.lookup_admin)


def _lookup(port: int | None) -> psutil.Process:
    """The process that listens there, which has to be a lookup of ours."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            process = psutil.Process(connection.pid)
            *_, command, service = ["", "", *process.cmdline()]
            if (Path(command).name, service) == ("hoso24", "lookup"):
                return process
    raise NoHouse(f"No lookup of this machine and this user listens on port {port}, so none can be started anew.")


def _wait_until_ready(admin: str) -> None:
    ends = time.monotonic() + PATIENCE
    while fetch(f"{admin}/readyz", 1.0).status != 200:
        if time.monotonic() > ends:
            raise NoHouse(f"The lookup was not ready again within {PATIENCE:.0f} s: does `make up` still run?")
        time.sleep(0.1)
