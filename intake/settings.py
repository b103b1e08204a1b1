"""Everything that can be set from outside, for intake, relay and imports."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from lookup.settings import CacheSettings, KeySettings, ReceiptSettings, RelayUrl, WriterUrl
from ops.process_settings import Count, PoolerSettings, Port, ProcessSettings, PublicSettings, Seconds
from ops.settings import setting


@dataclass(frozen=True, kw_only=True)
class WriterSettings(KeySettings, WriterUrl):
    """What everything that writes dossiers needs."""


@dataclass(frozen=True, kw_only=True)
class IntakeSettings(WriterSettings, ReceiptSettings, PoolerSettings, PublicSettings):
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


@dataclass(frozen=True, kw_only=True)
class RelaySettings(RelayUrl, CacheSettings, ProcessSettings):
    """The relay's settings."""

    admin_port: Port = setting("HOSO24_RELAY_ADMIN_PORT", default=8092, doc="The relay's probes and metrics.")


@dataclass(frozen=True, kw_only=True)
class MaintenanceSettings(WriterUrl):
    """What `hoso24 maintenance` needs."""

    notice_days: Annotated[int, Meta(ge=0, le=60)] = setting(
        "HOSO24_MAINTENANCE_NOTICE_DAYS",
        default=7,
        doc="Working days ahead that maintenance has to be announced (Decree 224/2026 art. 13).",
    )
