"""Makes a service cold: starts its lookup anew and empties its Redis, as after a failure of all but Postgres.

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
from loadtests.target import MORE_HOSTS, NoTarget, Target, refuse_strangers

PATIENCE = 60.0
"""Seconds the lookup may take to end, and again to be ready anew."""


def make_cold(target: Target, environ: Mapping[str, str]) -> None:
    """Stop the lookup, empty Redis, and return when the lookup is ready again. Raises NoTarget where that cannot be."""
    if target.redis is None or target.lookup_admin is None:
        raise NoTarget("A cold start needs a service of `make up` on this machine: only that is started anew.")
    refuse_strangers(target.redis, environ.get(MORE_HOSTS, ""), schemes=("redis", "rediss"))
    lookup = _lookup(urlsplit(target.lookup).port)
    try:
        lookup.terminate()
        lookup.wait(PATIENCE)
        with redis.Redis.from_url(target.redis) as server:
            server.flushdb()
    except (psutil.Error, redis.RedisError) as error:
        raise NoTarget(f"The service cannot be made cold: {type(error).__name__}: {error}.") from None
    _wait_until_ready(target.lookup_admin)


def _lookup(port: int | None) -> psutil.Process:
    """The process that listens there, which has to be a lookup of ours."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
            process = psutil.Process(connection.pid)
            *_, command, service = ["", "", *process.cmdline()]
            if (Path(command).name, service) == ("hoso24", "lookup"):
                return process
    raise NoTarget(f"No lookup of this machine and this user listens on port {port}, so none can be started anew.")


def _wait_until_ready(admin: str) -> None:
    ends = time.monotonic() + PATIENCE
    while fetch(f"{admin}/readyz", 1.0).status != 200:
        if time.monotonic() > ends:
            raise NoTarget(f"The lookup was not ready again within {PATIENCE:.0f} s: does `make up` still run?")
        time.sleep(0.1)
