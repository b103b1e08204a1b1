"""Everything that can be set from outside, for intake, relay and imports."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from lookup.settings import (
    CacheSettings,
    Count,
    PoolerSettings,
    Port,
    ProcessSettings,
    PublicSettings,
    Seconds,
    check_key_secrets,
    check_networks,
    check_url,
)
from ops.settings import Secret, setting
from ops.stores import urls


@dataclass(frozen=True, kw_only=True)
class WriterSettings:
    """What everything that writes dossiers needs."""

    pg_url: Secret = setting(
        "HOSO24_PG_WRITER_URL",
        doc="Postgres as role hoso24_writer: postgresql://hoso24_writer:…@host/hoso24.",
        secret=True,
    )
    lookup_key_secrets: Secret = setting(
        "HOSO24_LOOKUP_KEY_SECRETS",
        doc="Secrets of the lookup keys, id:hex,id:hex; the first signs, all verify.",
        secret=True,
    )

    def __post_init__(self) -> None:
        check_url("HOSO24_PG_WRITER_URL", urls.check_postgres, self.pg_url)
        check_key_secrets(self.lookup_key_secrets)


@dataclass(frozen=True, kw_only=True)
class IntakeSettings(WriterSettings, PoolerSettings, PublicSettings):
    """The intake's settings."""

    port: Port = setting("HOSO24_INTAKE_PORT", default=8090, doc="The intake's public port.")
    admin_port: Port = setting("HOSO24_INTAKE_ADMIN_PORT", default=8091, doc="The intake's probes and metrics.")
    pg_connections: Count = setting(
        "HOSO24_PG_WRITER_CONNECTIONS",
        default=16,
        doc="Connections an intake process opens to Postgres at the most.",
    )
    intake_deadline: Seconds = setting(
        "HOSO24_INTAKE_DEADLINE",
        default=5.0,
        doc="How long a change may take before its outcome is called unknown, in seconds.",
    )
    code_scheme: Literal["A", "B", "C", "D"] = setting(
        "HOSO24_CODE_SCHEME", default="B", doc="How new dossiers are numbered: A, B, C or D."
    )
    public_url: str = setting(
        "HOSO24_PUBLIC_URL",
        default="http://127.0.0.1:8080",
        doc="Where citizens reach the lookup; stands on receipts.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_networks("HOSO24_TRUSTED_PROXIES", self.trusted_proxies)


@dataclass(frozen=True, kw_only=True)
class RelaySettings(CacheSettings, ProcessSettings):
    """The relay's settings."""

    admin_port: Port = setting("HOSO24_RELAY_ADMIN_PORT", default=8092, doc="The relay's probes and metrics.")
    pg_url: Secret = setting(
        "HOSO24_PG_RELAY_URL",
        doc="Postgres as role hoso24_relay, directly, never through a pooler.",
        secret=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_url("HOSO24_PG_RELAY_URL", urls.check_postgres, self.pg_url)


@dataclass(frozen=True, kw_only=True)
class MaintenanceSettings:
    """What `hoso24 maintenance` needs."""

    pg_url: Secret = setting(
        "HOSO24_PG_WRITER_URL",
        doc="Postgres as role hoso24_writer: postgresql://hoso24_writer:…@host/hoso24.",
        secret=True,
    )
    notice_days: Annotated[int, Meta(ge=0, le=60)] = setting(
        "HOSO24_MAINTENANCE_NOTICE_DAYS",
        default=7,
        doc="Working days ahead that maintenance has to be announced (Decree 224/2026 art. 13).",
    )

    def __post_init__(self) -> None:
        check_url("HOSO24_PG_WRITER_URL", urls.check_postgres, self.pg_url)
