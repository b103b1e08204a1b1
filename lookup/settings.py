"""Everything that can be set from outside, for the lookup and for migrations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from lookup.dossier import Shows
from lookup.lookup_key import KeyRing
from ops.http.client_address import Networks
from ops.http.connection_limit import MOST
from ops.settings import Secret, setting
from ops.stores import urls

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400 * 365)]
Count = Annotated[int, Meta(ge=1, le=10_000)]

PRIVATE_NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
"""No citizen comes from one of these; whoever does is a proxy in front of us."""


@dataclass(frozen=True, kw_only=True)
class ProcessSettings:
    """What every process of the house has."""

    host: str = setting("HOSO24_HOST", default="0.0.0.0", doc="Address the ports listen on.")  # noqa: S104 - in a pod
    drain_seconds: Annotated[float, Meta(ge=0, le=300)] = setting(
        "HOSO24_DRAIN_SECONDS",
        default=5.0,
        doc="How long a stopping process still accepts requests, closing each connection.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "HOSO24_LOG_LEVEL", default="info", doc="debug, info, warning or error."
    )
    log_hash_key: Secret | None = setting(
        "HOSO24_LOG_HASH_KEY",
        default=None,
        doc="Key of the hashes that stand for codes in the log; lines of processes that share it can be joined. "
        "Several, one a line: the first hashes, the others are of older lines. Without one each process makes its own.",
        secret=True,
    )
    pg_deadline: Seconds = setting(
        "HOSO24_PG_DEADLINE", default=1.0, doc="Longest a read from Postgres may take, in seconds."
    )


@dataclass(frozen=True, kw_only=True)
class PoolerSettings:
    """What a process has that may be put behind a connection pooler."""

    pg_pooled: bool = setting(
        "HOSO24_PG_POOLED",
        default=False,
        doc="Whether lookup and intake reach Postgres through PgBouncer in transaction mode.",
    )


@dataclass(frozen=True, kw_only=True)
class PublicSettings(ProcessSettings):
    """What every process with a public port has."""

    connections: Annotated[int, Meta(ge=16, le=1_000_000)] = setting(
        "HOSO24_CONNECTIONS",
        default=MOST,
        doc="Clients connected to a process at the most; fewer where it may not have so many descriptors.",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "HOSO24_TRUSTED_PROXIES",
        default=PRIVATE_NETWORKS,
        doc="Networks whose X-Forwarded-For and traceparent are believed.",
    )


def check_networks(name: str, networks: tuple[str, ...]) -> None:
    """Raise ValueError, naming the setting, unless these are networks."""
    try:
        Networks(networks)
    except ValueError as fault:
        raise ValueError(f"{name}: {fault}") from None


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What a process that reads or writes the cache has."""

    redis_url: Secret = setting(
        "HOSO24_REDIS_URL",
        doc="Redis or Valkey: redis://:password@host:port/0, with TLS rediss://…, "
        "by Sentinels redis+sentinel://:password@one,two,three/primary/0.",
        secret=True,
    )
    redis_deadline: Seconds = setting(
        "HOSO24_REDIS_DEADLINE", default=0.1, doc="Longest any Redis command may take, in seconds."
    )
    hard_age: Seconds = setting(
        "HOSO24_HARD_AGE",
        default=86_400.0,
        doc="Oldest copy that may be served at all, marked stale, in seconds.",
    )

    def __post_init__(self) -> None:
        check_url("HOSO24_REDIS_URL", urls.check_redis, self.redis_url)


@dataclass(frozen=True, kw_only=True)
class LookupSettings(CacheSettings, PoolerSettings, PublicSettings):
    """The lookup's settings."""

    port: Port = setting("HOSO24_LOOKUP_PORT", default=8080, doc="The lookup's public port.")
    admin_port: Port = setting("HOSO24_LOOKUP_ADMIN_PORT", default=8081, doc="The lookup's probes and metrics.")
    pg_url: Secret = setting(
        "HOSO24_PG_READER_URL",
        doc="Postgres as role hoso24_reader, several hosts with commas: postgresql://hoso24_reader:…@one,two/hoso24.",
        secret=True,
    )
    pg_queries: Annotated[int, Meta(ge=2, le=100)] = setting(
        "HOSO24_PG_READER_QUERIES",
        default=4,
        doc="Queries a lookup process has under way in Postgres at the most, and connections to each host.",
    )
    memory_bytes: Annotated[int, Meta(ge=0, le=2**36)] = setting(
        "HOSO24_MEMORY_BYTES",
        default=128 * 2**20,
        doc="Bytes of process memory for copies of records and their finished answers; 0 keeps none.",
    )
    access_log_share: Annotated[float, Meta(ge=0, le=1)] = setting(
        "HOSO24_ACCESS_LOG_SHARE",
        default=0.01,
        doc="Share of good, quick lookups that are logged, below 1 at most 50 a second; of bad or slow ones 100.",
    )
    lookup_deadline: Seconds = setting(
        "HOSO24_LOOKUP_DEADLINE",
        default=2.5,
        doc="Longest a lookup may take before it is answered 503, in seconds.",
    )
    soft_age: Seconds = setting(
        "HOSO24_SOFT_AGE", default=60.0, doc="Oldest answer that goes out unmarked, in seconds."
    )
    public_url: str = setting(
        "HOSO24_PUBLIC_URL",
        default="http://127.0.0.1:8080",
        doc="Where citizens reach the lookup; stands on receipts.",
    )
    lookup_key_secrets: Secret = setting(
        "HOSO24_LOOKUP_KEY_SECRETS",
        doc="Secrets of the lookup keys, id:hex,id:hex; the first signs, all verify.",
        secret=True,
    )
    partners: tuple[str, ...] = setting(
        "HOSO24_PARTNERS", default=(), doc="Networks of partners that ask much, whom no rate applies to."
    )
    anonymous_shows: tuple[str, ...] = setting(
        "HOSO24_ANONYMOUS_SHOWS",
        default=(),
        doc="What the anonymous view adds: dates, official_number, agency, service.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url("HOSO24_PG_READER_URL", urls.check_postgres, self.pg_url)
        check_key_secrets(self.lookup_key_secrets)
        check_networks("HOSO24_TRUSTED_PROXIES", self.trusted_proxies)
        check_networks("HOSO24_PARTNERS", self.partners)
        unknown = set(self.anonymous_shows) - {word.value for word in Shows}
        if unknown:
            raise ValueError(f"HOSO24_ANONYMOUS_SHOWS: unknown {', '.join(sorted(unknown))}")


def check_url(name: str, check: Callable[[str], None], url: Secret) -> None:
    """Raise ValueError, with the setting's name and without the URL, unless `check` lets it pass."""
    try:
        check(url.reveal())
    except ValueError as fault:
        raise ValueError(f"{name}: {fault}") from None


def check_key_secrets(secrets: Secret) -> None:
    """Raise ValueError unless these are secrets lookup keys can be made with; says nothing of their content."""
    try:
        KeyRing.from_text(secrets.reveal())
    except ValueError:
        raise ValueError(
            "HOSO24_LOOKUP_KEY_SECRETS: expected id:hex,id:hex with ids from 0 to 31 and at least 16 bytes each"
        ) from None


@dataclass(frozen=True, kw_only=True)
class MigrateSettings:
    """What `hoso24 migrate` needs."""

    owner_url: Secret = setting(
        "HOSO24_PG_OWNER_URL", doc="Postgres as role hoso24_owner, which owns the schema.", secret=True
    )
    admin_url: Secret | None = setting(
        "HOSO24_PG_ADMIN_URL",
        default=None,
        doc="Postgres as a superuser, only to create the four roles and the database.",
        secret=True,
    )
    reader_url: Secret | None = setting(
        "HOSO24_PG_READER_URL",
        default=None,
        doc="With the superuser's: the reader's password is taken from it.",
        secret=True,
    )
    writer_url: Secret | None = setting(
        "HOSO24_PG_WRITER_URL",
        default=None,
        doc="With the superuser's: the writer's password is taken from it.",
        secret=True,
    )
    relay_url: Secret | None = setting(
        "HOSO24_PG_RELAY_URL",
        default=None,
        doc="With the superuser's: the relay's password is taken from it.",
        secret=True,
    )

    def __post_init__(self) -> None:
        check_url("HOSO24_PG_OWNER_URL", urls.check_postgres, self.owner_url)
