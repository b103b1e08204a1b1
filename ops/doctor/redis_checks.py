"""Checks of Redis that know no keys: version, role, eviction, memory, Sentinels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ops import doctor
from ops.doctor.certificate_checks import shown
from ops.doctor.findings import Check, Finding, Verdict, reason
from ops.errors import Unavailable
from ops.stores.calls import reason_of
from ops.stores.redis import Redis
from ops.stores.sentinels import SentinelAnswer, Sentinels
from ops.stores.urls import RedisAddress, first, redis_address

READ_ONLY_KEYS = (7, 0)
"""The first version whose users can have keys that they only read (`%R~`)."""
MEMORY_REMARKED = 0.9
"""Share of maxmemory in use above which the verdict is a warning."""

WHERE = "into the server's configuration and restart it, a replica first."
"""Not CONFIG SET: our accounts may not, and the next start would forget it."""


def redis(server: Redis, *, policy: str, oldest: tuple[int, int]) -> Iterator[Check]:
    """Checks of connection, version, role, memory and eviction. `policy`: the required maxmemory-policy."""

    async def ask() -> list[Finding]:
        try:
            told: dict[str, Any] = await server.run(lambda client: client.info("everything"))
        except Unavailable as away:
            step = "Start it, or correct HOSO24_REDIS_URL; try `redis-cli -u` with that URL to see more."
            return [Finding("redis", Verdict.WRONG, f"cannot be reached: {reason(away)}", step)]
        return [_version(told, oldest), *_role(told), _policy(told, policy), _memory(told), *_saving(told)]

    yield Check("redis", ask)


def _version(told: Mapping[str, Any], oldest: tuple[int, int]) -> Finding:
    name = f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"
    major, minor, *_ = (int(part) for part in str(told["redis_version"]).split("."))
    if (major, minor) < oldest:
        wanted = ".".join(map(str, oldest))
        return Finding("redis", Verdict.WRONG, name, f"Upgrade it to Redis {wanted} or newer, or to Valkey.")
    if (major, minor) < READ_ONLY_KEYS:
        step = "Upgrade it to Redis 7 or newer, or to Valkey: before, a user who may read a key may write it."
        return Finding("redis", Verdict.WARNING, f"{name} answers, and knows no keys that a user may only read", step)
    return Finding("redis", Verdict.OK, f"{name} answers")


def _role(told: Mapping[str, Any]) -> Iterator[Finding]:
    if told.get("role") != "master":
        step = "Let HOSO24_REDIS_URL name the primary: a replica refuses writes."
        yield Finding("redis role", Verdict.WRONG, f"it is a replica of {told.get('master_host')}", step)


def _policy(told: Mapping[str, Any], wanted: str) -> Finding:
    policy = str(told.get("maxmemory_policy", "unknown"))
    if policy == wanted:
        return Finding("redis policy", Verdict.OK, f"maxmemory-policy {policy}")
    # volatile-* evicts only keys that expire; other policies evict keys that must stay, or refuse writes.
    verdict = Verdict.WARNING if policy.startswith("volatile-") else Verdict.WRONG
    step = f"Write `maxmemory-policy {wanted}` {WHERE}"
    return Finding("redis policy", verdict, f"maxmemory-policy {policy}", step)


def _memory(told: Mapping[str, Any]) -> Finding:
    used, most = int(told["used_memory"]), int(told.get("maxmemory", 0))
    if not most:
        step = f"Write `maxmemory 2gb`, or another limit, {WHERE}"
        return Finding("redis memory", Verdict.WARNING, f"{used / 2**20:.0f} MiB used, and no maxmemory", step)
    found = f"{used / 2**20:.0f} of {most / 2**20:.0f} MiB used, {told.get('evicted_keys', 0)} keys evicted so far"
    if used > MEMORY_REMARKED * most:
        step = f"New records will evict ones still in use: write a larger `maxmemory` {WHERE}"
        return Finding("redis memory", Verdict.WARNING, found, step)
    return Finding("redis memory", Verdict.OK, found)


def _saving(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether it can save to its disk: a Redis that cannot save refuses writes."""
    failed = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if told.get(name, "ok") != "ok"]
    if failed:
        step = "Give its disk space or the right owner, then run `redis-cli BGSAVE`."
        yield Finding("redis saving", Verdict.WRONG, f"{', '.join(failed)}: failed", step)


def sentinels(url: str) -> list[Check]:
    """A check that every Sentinel of this URL answers and names the same primary; none without Sentinels."""
    try:
        address = redis_address(first(url))
    except ValueError:
        return []  # the check of the settings reports it
    if not address.primary:
        return []

    async def ask() -> list[Finding]:
        asking = Sentinels(doctor.SERVER_DEADLINE)
        try:
            return list(_of_sentinels(address, await asking.each(address)))
        finally:
            await asking.close()

    return [Check("sentinels", ask)]


def _of_sentinels(address: RedisAddress, said: Sequence[SentinelAnswer | BaseException]) -> Iterator[Finding]:
    answers = [each for each in said if isinstance(each, SentinelAnswer)]
    enough = len(answers) > len(said) // 2
    for place, away in zip(address.places, said, strict=True):
        if isinstance(away, BaseException):
            step = "Start it, or correct HOSO24_REDIS_URL: without a majority of Sentinels there is no failover."
            found = f"{shown(place)} does not answer: {reason_of(away)}"
            yield Finding("sentinels", Verdict.WARNING if enough else Verdict.WRONG, found, step)
    named = sorted({shown(answer.primary) for answer in answers})
    if len(named) > 1:
        step = "Run it again in some seconds; if it remains, find the Sentinel that is cut off from the others."
        yield Finding("sentinels", Verdict.WRONG, f"they name different primaries: {', '.join(named)}", step)
    elif any(answer.down for answer in answers):
        step = "Look at that Redis, and at the Sentinels' logs: they fail over if a replica is left."
        yield Finding("sentinels", Verdict.WRONG, f"some Sentinels consider the primary {named[0]} down", step)
    elif answers and not min(answer.replicas for answer in answers):
        step = "Start a replica: without one there is no failover."
        yield Finding("sentinels", Verdict.WARNING, f"{named[0]} is the primary and has no replica", step)
    elif answers:
        found = f"{len(answers)} of {len(said)} name {named[0]}, which has {answers[0].replicas} replicas"
        yield Finding("sentinels", Verdict.OK, found)
