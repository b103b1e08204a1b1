"""Settings of the lookup and of migrations; intake uses some of the groups."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from lookup.dossier import Shows
from lookup.lookup_key import KeyRing
from ops.http.client_address import Networks
from ops.process_settings import PoolerSettings, Port, PublicSettings, Seconds
from ops.settings import Secret, optional, setting
from ops.stores import urls


@dataclass(frozen=True, kw_only=True)
class ReaderUrl:
    """PostgreSQL for a process that only reads dossiers."""

    pg_url: Secret = setting(
        "HOSO24_PG_READER_URL",
        doc="PostgreSQL as role hoso24_reader, one host or several: postgresql://hoso24_reader:…@one,two/hoso24.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class WriterUrl:
    """PostgreSQL for processes that write dossiers."""

    pg_url: Secret = setting(
        "HOSO24_PG_WRITER_URL",
        doc="PostgreSQL as role hoso24_writer: postgresql://hoso24_writer:…@host/hoso24.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class RelayUrl:
    """PostgreSQL for the relay, which needs a session, not a pooler."""

    pg_url: Secret = setting(
        "HOSO24_PG_RELAY_URL",
        doc="PostgreSQL as role hoso24_relay, directly, never through a pooler.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class NotaryUrl:
    """PostgreSQL for the notary, which needs a session, not a pooler."""

    pg_url: Secret = setting(
        "HOSO24_PG_NOTARY_URL",
        doc="PostgreSQL as role hoso24_notary, directly, never through a pooler.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class AuditorUrl:
    """PostgreSQL for who verifies the books; a standby will do."""

    pg_url: Secret = setting(
        "HOSO24_PG_AUDITOR_URL",
        doc="PostgreSQL as role hoso24_auditor, directly; a standby will do.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class ArchivistUrl:
    """PostgreSQL for what erases and tidies up."""

    pg_url: Secret = setting(
        "HOSO24_PG_ARCHIVIST_URL",
        doc="PostgreSQL as role hoso24_archivist, which erases and deletes what has expired.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class WebhooksUrl:
    """PostgreSQL for what delivers webhooks."""

    pg_url: Secret = setting(
        "HOSO24_PG_WEBHOOKS_URL",
        doc="PostgreSQL as role hoso24_webhooks, the primary.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class DeskUrl:
    """PostgreSQL for officers' desks."""

    pg_url: Secret = setting(
        "HOSO24_PG_DESK_URL",
        doc="PostgreSQL as role hoso24_desk, the primary.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class NoticesUrl:
    """PostgreSQL for what tells citizens by mail and through a gateway."""

    pg_url: Secret = setting(
        "HOSO24_PG_NOTICES_URL",
        doc="PostgreSQL as role hoso24_notices, the primary.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class FiguresUrl:
    """PostgreSQL for what counts the public figures."""

    pg_url: Secret = setting(
        "HOSO24_PG_FIGURES_URL",
        doc="PostgreSQL as role hoso24_figures, the primary.",
        secret=True,
        check=urls.check_postgres,
    )


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Settings of a process that reads or writes the cache."""

    redis_url: Secret = setting(
        "HOSO24_REDIS_URL",
        doc="Redis or Valkey: redis://:password@host:port/0, with TLS rediss://…, "
        "through Sentinels redis+sentinel://:password@one,two,three/primary/0.",
        secret=True,
        check=urls.check_redis,
    )
    redis_deadline: Seconds = setting(
        "HOSO24_REDIS_DEADLINE", default=0.1, doc="Timeout of a Redis command, in seconds."
    )
    hard_age: Seconds = setting(
        "HOSO24_HARD_AGE",
        default=86_400.0,
        doc="Hard age: no copy older than this is served, in seconds.",
    )


@dataclass(frozen=True, kw_only=True)
class ReceiptSettings:
    """Settings of a process that prints receipts or answers the links printed on them."""

    public_url: str = setting(
        "HOSO24_PUBLIC_URL",
        default="http://127.0.0.1:8080",
        doc="Address at which citizens reach the lookup; printed on receipts.",
    )


def check_key_secrets(text: str) -> None:
    """Raise ValueError unless these are valid secrets of lookup keys; the message contains no part of them."""
    try:
        KeyRing.from_text(text)
    except ValueError:
        raise ValueError("expected id:hex,id:hex with ids from 0 to 31 and at least 16 bytes each") from None


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """Settings of a process that makes or checks lookup keys."""

    lookup_key_secrets: Secret = setting(
        "HOSO24_LOOKUP_KEY_SECRETS",
        doc="Secrets of the lookup keys, id:hex,id:hex; the first one signs, all of them verify.",
        secret=True,
        check=check_key_secrets,
    )


def _check_shows(words: Iterable[str]) -> None:
    unknown = set(words) - {word.value for word in Shows}
    if unknown:
        raise ValueError(f"unknown {', '.join(sorted(unknown))}")


@dataclass(frozen=True, kw_only=True)
class PaperPublicKeysSettings:
    """Settings of a process that verifies the stamps on papers, or makes them."""

    paper_public_keys: Path | None = setting(
        "HOSO24_PAPER_PUBLIC_KEYS",
        default=None,
        doc="JSON file of the public keys that stamps on papers are verified with; `hoso24 paper key` writes it. It is "
        "no secret; old keys stay in it for good.",
    )


@dataclass(frozen=True, kw_only=True)
class LookupSettings(
    KeySettings,
    ReceiptSettings,
    PaperPublicKeysSettings,
    ReaderUrl,
    CacheSettings,
    PoolerSettings,
    PublicSettings,
):
    """The lookup's settings."""

    port: Port = setting("HOSO24_LOOKUP_PORT", default=8080, doc="Public port of the lookup.")
    admin_port: Port = setting("HOSO24_LOOKUP_ADMIN_PORT", default=8081, doc="Port of the lookup's probes and metrics.")
    pg_queries: Annotated[int, Meta(ge=2, le=100)] = setting(
        "HOSO24_PG_READER_QUERIES",
        default=4,
        doc="Limit of a lookup process for concurrent PostgreSQL queries, and for connections to each host.",
    )
    memory_bytes: Annotated[int, Meta(ge=0, le=2**36)] = setting(
        "HOSO24_MEMORY_BYTES",
        default=128 * 2**20,
        doc="Memory of a lookup process for copies of records and finished answers, in bytes; 0 keeps none.",
    )
    access_log_share: Annotated[float, Meta(ge=0, le=1)] = setting(
        "HOSO24_ACCESS_LOG_SHARE",
        default=0.01,
        doc="Share of fast, successful lookups that are logged: below 1 at most 50 per second, of others at most 100.",
    )
    lookup_deadline: Seconds = setting(
        "HOSO24_LOOKUP_DEADLINE",
        default=2.5,
        doc="Timeout of a lookup, in seconds; then it is answered 503.",
    )
    soft_age: Seconds = setting(
        "HOSO24_SOFT_AGE", default=60.0, doc="Soft age: an answer older than this is marked stale, in seconds."
    )
    partners: tuple[str, ...] = setting(
        "HOSO24_PARTNERS",
        default=(),
        doc="Networks of partners, to which no limit applies.",
        check=Networks,
    )
    key_for_any_status: bool = setting(
        "HOSO24_KEY_FOR_ANY_STATUS",
        default=False,
        doc="Whether a status is shown only with the lookup key of its dossier, so that statuses cannot be read off.",
    )
    anonymous_shows: tuple[str, ...] = setting(
        "HOSO24_ANONYMOUS_SHOWS",
        default=(),
        doc="Fields added to the anonymous view: due (the due date, which may tell the kind of benefit), dates, "
        "official_number, agency, service.",
        check=_check_shows,
    )
    site_owner: str = setting(
        "HOSO24_SITE_OWNER",
        default="",
        doc="Name of the agency that runs the site, in Vietnamese; every page's footer shows it.",
    )
    site_owner_contact: str = setting(
        "HOSO24_SITE_OWNER_CONTACT",
        default="",
        doc="Where to write to the site's owner: a mail address, an https address or a postal address.",
    )
    hotline: str = setting("HOSO24_HOTLINE", default="", doc="Telephone number of the helpline for citizens.")
    acceptance_hours: Annotated[int, Meta(ge=0, le=100)] = setting(
        "HOSO24_ACCEPTANCE_HOURS",
        default=8,
        doc="Working hours within which an online application is accepted, sent back or refused, as its page says; "
        "0: the page does not say.",
    )


@dataclass(frozen=True, kw_only=True)
class MigrateSettings:
    """Settings of `hoso24 migrate`; the other roles' URLs only for the passwords of roles it creates."""

    owner_url: Secret = setting(
        "HOSO24_PG_OWNER_URL",
        doc="PostgreSQL as role hoso24_owner, which owns the schema.",
        secret=True,
        check=urls.check_postgres,
    )
    admin_url: Secret | None = setting(
        "HOSO24_PG_ADMIN_URL",
        default=None,
        doc="PostgreSQL as a superuser, only to create the roles and the database; "
        "their passwords are taken from their URLs.",
        secret=True,
        check=urls.check_postgres,
    )
    reader_url: Secret | None = optional(ReaderUrl, "pg_url")
    writer_url: Secret | None = optional(WriterUrl, "pg_url")
    relay_url: Secret | None = optional(RelayUrl, "pg_url")
    notary_url: Secret | None = optional(NotaryUrl, "pg_url")
    auditor_url: Secret | None = optional(AuditorUrl, "pg_url")
    archivist_url: Secret | None = optional(ArchivistUrl, "pg_url")
    webhooks_url: Secret | None = optional(WebhooksUrl, "pg_url")
    desk_url: Secret | None = optional(DeskUrl, "pg_url")
    notices_url: Secret | None = optional(NoticesUrl, "pg_url")
    figures_url: Secret | None = optional(FiguresUrl, "pg_url")
