"""Settings of every process: address, log, drain, proxies, pooler."""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

from msgspec import Meta

from ops.http.client_address import Networks
from ops.http.connection_limit import MOST
from ops.http.listener import EVERYWHERE
from ops.settings import Secret, setting

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400 * 365)]
Count = Annotated[int, Meta(ge=1, le=10_000)]


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """Settings of every process."""

    host: str = setting(
        "HOSO24_HOST",
        default=EVERYWHERE,
        doc="Address the ports listen on; `*` is every address of IPv4 and, where the machine has it, of IPv6.",
    )
    drain_seconds: Annotated[float, Meta(ge=0, le=300)] = setting(
        "HOSO24_DRAIN_SECONDS",
        default=5.0,
        doc="How long a stopping process still accepts requests, in seconds; each answer closes its connection.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "HOSO24_LOG_LEVEL", default="info", doc="debug, info, warning or error."
    )
    log_hash_key: Secret | None = setting(
        "HOSO24_LOG_HASH_KEY",
        default=None,
        doc="Key of the hashes that replace names in the log; processes that share it write the same hash for a name. "
        "Several keys, one per line: the first is used, the others are for older lines. Without a key, each process "
        "makes its own.",
        secret=True,
    )
    pg_deadline: Seconds = setting(
        "HOSO24_PG_DEADLINE", default=1.0, doc="Timeout of a read from PostgreSQL, in seconds."
    )


@dataclass(frozen=True, kw_only=True)
class PoolerSettings:
    """Settings of a process that may be behind a connection pooler."""

    pg_pooled: bool = setting(
        "HOSO24_PG_POOLED",
        default=False,
        doc="Whether PostgreSQL is reached through PgBouncer in transaction mode.",
    )


@dataclass(frozen=True, kw_only=True)
class PublicSettings(ProcessSettings):
    """Settings of every process with a public port."""

    connections: Annotated[int, Meta(ge=16, le=1_000_000)] = setting(
        "HOSO24_CONNECTIONS",
        default=MOST,
        doc="Connection limit of a process; lower where the system allows fewer file descriptors.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "HOSO24_TRUSTED_PROXIES",
        default=(),
        doc="Networks of our own proxies, whose X-Forwarded-For and traceparent headers are trusted; without any, all "
        "clients behind a proxy count as one.",
        check=Networks,
    )


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """What only the doctor asks for; no process needs it."""

    secrets_backed_up_on: date | None = setting(
        "HOSO24_SECRETS_BACKED_UP_ON",
        default=None,
        doc="The day on which the second copy of the secrets was last made and read back, as 2026-11-30 "
        "(docs/runbooks/secrets.md); `hoso24 doctor` warns without one, and when it is older than a year.",
    )
