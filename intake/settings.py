"""The settings of intake, relay, imports and maintenance notices."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from intake.books.seal import SealKeys
from lookup.settings import CacheSettings, KeySettings, ReceiptSettings, RelayUrl, WriterUrl
from ops.process_settings import Count, PoolerSettings, Port, ProcessSettings, PublicSettings, Seconds
from ops.settings import Secret, setting


@dataclass(frozen=True, kw_only=True)
class SealSettings:
    """Settings of a process that seals events, or checks their seals."""

    seal_keys: Secret = setting(
        "HOSO24_SEAL_KEYS",
        doc="Keys that seal events, id:hex,id:hex; the first seals, all of them verify. PostgreSQL never sees them.",
        secret=True,
        check=SealKeys.from_text,
    )


@dataclass(frozen=True, kw_only=True)
class WriterSettings(KeySettings, SealSettings, WriterUrl):
    """The settings of every process that writes dossiers."""


@dataclass(frozen=True, kw_only=True)
class IntakeSettings(WriterSettings, ReceiptSettings, PoolerSettings, PublicSettings):
    """The settings of an intake process."""

    port: Port = setting("HOSO24_INTAKE_PORT", default=8090, doc="Public port of the intake.")
    admin_port: Port = setting("HOSO24_INTAKE_ADMIN_PORT", default=8091, doc="Port of the intake's probes and metrics.")
    pg_connections: Count = setting(
        "HOSO24_PG_WRITER_CONNECTIONS",
        default=16,
        doc="Limit of an intake process for connections to PostgreSQL.",
    )
    intake_deadline: Seconds = setting(
        "HOSO24_INTAKE_DEADLINE",
        default=5.0,
        doc="Timeout of a change, in seconds; then its outcome is reported as unknown.",
    )
    code_scheme: Literal["A", "B", "C", "D"] = setting(
        "HOSO24_CODE_SCHEME", default="B", doc="Scheme of new codes: A, B, C or D."
    )


@dataclass(frozen=True, kw_only=True)
class RelaySettings(RelayUrl, CacheSettings, ProcessSettings):
    """The settings of a relay process."""

    admin_port: Port = setting("HOSO24_RELAY_ADMIN_PORT", default=8092, doc="Port of the relay's probes and metrics.")


@dataclass(frozen=True, kw_only=True)
class MaintenanceSettings(WriterUrl):
    """The settings of `hoso24 maintenance`."""

    notice_days: Annotated[int, Meta(ge=0, le=60)] = setting(
        "HOSO24_MAINTENANCE_NOTICE_DAYS",
        default=7,
        doc="Working days of notice before maintenance (Decree 224/2026 art. 13).",
    )
