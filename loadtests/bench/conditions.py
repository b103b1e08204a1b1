"""Under which conditions a run was made: a figure without them says nothing."""

import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil
import redis

from loadtests.bench.rig import CaseOutcome
from loadtests.bench.usage import DISTURBED
from loadtests.machine import commit, processor
from loadtests.system.installation import Installation

PACKAGES = ("aiohttp", "uvloop", "asyncpg", "redis", "hiredis", "msgspec", "fastapi", "uvicorn", "httptools")


def conditions(system: Installation, outcomes: Sequence[CaseOutcome], options: str) -> dict[str, str]:
    """What to know about the machine, the versions and the runs, in the order to print it."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "hoso24": commit("loadtests/bench/RESULTS.md"),
        "machine": f"{processor()}, {psutil.virtual_memory().total / 2**30:.0f} GiB; "
        f"{platform.system()} {platform.release()}",
        "cores": "the server under test alone on one; wrk, Postgres, Redis, relay and bench together on the other",
        "Python": f"{sys.version} built with {platform.python_compiler()}, {_optimised()}; the same for ours and peers",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "servers": "; ".join((_postgres(system), _redis(system), _program("nginx"), _program("wrk"))),
        "runs": options,
        "others": others(outcomes),
    }


def _optimised() -> str:
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "profile-guided (--enable-optimizations)"
    if sys.base_prefix == "/usr" and Path("/etc/debian_version").exists():
        return "Debian's own, which is profile-guided without saying so"
    return "not profile-guided (no --enable-optimizations)"


def _postgres(system: Installation) -> str:
    return f"PostgreSQL {system.ask('reader', lambda reader: reader.fetchval('SHOW server_version'))}"


def _redis(system: Installation) -> str:
    with redis.Redis.from_url(system.redis) as client:
        server = client.info("server")
    valkey = server.get("valkey_version")
    return f"Valkey {valkey}" if valkey else f"Redis {server['redis_version']}"


def _program(program: str) -> str:
    # One of them prints its version to stderr, the other fails after printing it.
    done = subprocess.run([program, "-v"], check=False, capture_output=True, text=True)
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return f"{program} {found[0] if found else 'of an unknown version'}"


def others(outcomes: Sequence[CaseOutcome]) -> str:
    """How much of the machine others had, in one sentence."""
    every = [series for outcome in outcomes for series in outcome.series]
    usages = [run.usage for series in every for run in series.runs]
    usages += [usage for outcome in outcomes for usage in outcome.usages]
    most = max((usage.strangers for usage in usages), default=0.0)
    again = sum(series.discarded for series in every)
    return (
        f"processes that are not the bench's took at most {most:.0%} of one core during a run; {again} runs were "
        f"measured again because that had been more than {DISTURBED:.0%}"
    )
