"""The settings of intake, relay, notary, webhooks, notices, desk, imports and maintenance notices."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from intake.books.checkpoint import Signer, VerifierKey
from intake.books.seal import SealKeys
from intake.notices.smtp_url import SmtpUrl
from intake.notices.tokens import secret_of as notice_secret_of
from intake.outgoing.addresses import Addresses, UrlRefused
from intake.outgoing.signatures import secret_of, shared_key_of
from intake.rules.channels import checked
from lookup.settings import (
    CacheSettings,
    DeskUrl,
    KeySettings,
    MigrateSettings,
    NotaryUrl,
    NoticesUrl,
    PaperPublicKeysSettings,
    ReceiptSettings,
    RelayUrl,
    WebhooksUrl,
    WriterUrl,
)
from ops.http.client_address import Networks
from ops.process_settings import PoolerSettings, Port, ProcessSettings, PublicSettings, Seconds
from ops.settings import Secret, optional, setting

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PerMinute = Annotated[int, Meta(ge=1, le=10_000_000)]


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
class LedgerSettings:
    """Settings of the processes that answer a person or a system with a change."""

    intake_deadline: Seconds = setting(
        "HOSO24_INTAKE_DEADLINE",
        default=5.0,
        doc="Timeout of a change, in seconds; then its outcome is reported as unknown.",
    )
    code_scheme: Literal["A", "B", "C", "D"] = setting(
        "HOSO24_CODE_SCHEME", default="B", doc="Scheme of new codes: A, B, C or D; in the sandbox always B."
    )


@dataclass(frozen=True, kw_only=True)
class WebhookKeySettings:
    """Settings of the processes that make webhooks and deliver to them."""

    webhook_secret: Secret = setting(
        "HOSO24_WEBHOOK_SECRET",
        doc="Secret from which the keys of all webhooks are derived, 64 hexadecimal digits; the same for intakes and "
        "webhooks. Another one refuses every receiver's verification until it has its new keys.",
        secret=True,
        check=secret_of,
    )
    webhook_networks: tuple[str, ...] = setting(
        "HOSO24_WEBHOOK_NETWORKS",
        default=(),
        doc="Networks that webhooks may lead to besides public addresses: the state's own, or 127.0.0.0/8 for trials "
        "on one machine, where receivers may then be reached by http.",
        check=Networks,
    )


@dataclass(frozen=True, kw_only=True)
class PaperKeySettings(PaperPublicKeysSettings):
    """Settings of the processes that issue papers."""

    paper_key_file: Path | None = setting(
        "HOSO24_PAPER_KEY_FILE",
        default=None,
        doc="File of the key that stamps papers, Ed25519 as PKCS#8 in PEM; `hoso24 paper key` makes it. Without it no "
        "papers are issued; while it is set and cannot be read, nothing that needs a paper is recorded (503).",
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a key without the file of public keys."""
        if self.paper_key_file is not None and self.paper_public_keys is None:
            raise ValueError("HOSO24_PAPER_KEY_FILE: also needs HOSO24_PAPER_PUBLIC_KEYS, which has the key's id")


@dataclass(frozen=True, kw_only=True)
class IntakeSettings(
    WriterSettings,
    LedgerSettings,
    WebhookKeySettings,
    PaperKeySettings,
    ReceiptSettings,
    PoolerSettings,
    PublicSettings,
):
    """The settings of an intake process."""

    port: Port = setting("HOSO24_INTAKE_PORT", default=8090, doc="Public port of the intake.")
    admin_port: Port = setting("HOSO24_INTAKE_ADMIN_PORT", default=8091, doc="Port of the intake's probes and metrics.")
    pg_connections: Annotated[int, Meta(ge=3, le=10_000)] = setting(
        "HOSO24_PG_WRITER_CONNECTIONS",
        default=16,
        doc="Limit of an intake process for connections to PostgreSQL; two of them are the change feed's.",
    )
    client_writes: PerMinute = setting(
        "HOSO24_CLIENT_WRITES", default=600, doc="Changes that a client may make in a minute, for each intake process."
    )
    client_reads: PerMinute = setting(
        "HOSO24_CLIENT_READS", default=3_000, doc="Reads that a client may make in a minute, for each intake process."
    )
    client_lines: Annotated[int, Meta(ge=10_000, le=100_000_000)] = setting(
        "HOSO24_CLIENT_LINES",
        default=300_000,
        doc="Lines that a client may synchronise in a minute, for each intake process; at least 10,000, a whole body.",
    )
    sandbox: Literal["on", "off"] = setting(
        "HOSO24_SANDBOX",
        default="off",
        doc="on: dossiers of the sandbox move by themselves, for developers; needs its agencies in the catalogue. Off "
        "in production.",
    )


def _issuer(text: str) -> None:
    """Raise ValueError unless this can be an issuer: an https address, or one of this machine for trials."""
    parts = urlsplit(text)
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not safe or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected the issuer's https address, exactly as its tokens spell it")


def _desk_url(text: str) -> None:
    """Raise ValueError unless this is the address of a host, without a path."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("expected the address of a host of the desk's own, such as https://quay.example")


@dataclass(frozen=True, kw_only=True)
class SignInSettings:
    """How officers sign in, and where the desk is."""

    desk_url: str = setting(
        "HOSO24_DESK_URL",
        default="http://127.0.0.1:8095",
        doc="Address at which officers reach the desk: a host of its own, never the citizens'. With https its cookies "
        "are sent over TLS only.",
        check=_desk_url,
    )
    oidc_issuer: str | None = setting(
        "HOSO24_DESK_OIDC_ISSUER",
        default=None,
        doc="Issuer of the officers' sign-in (OpenID Connect), as its tokens spell it. Without one the desk takes "
        "one-time links of `hoso24 desk link` only, for trials.",
        check=_issuer,
    )
    oidc_client_id: str = setting(
        "HOSO24_DESK_OIDC_CLIENT_ID", default="hoso24-desk", doc="The desk's client id at the issuer."
    )
    oidc_client_secret: Secret | None = setting(
        "HOSO24_DESK_OIDC_CLIENT_SECRET",
        default=None,
        doc="The desk's client secret at the issuer; none for a public client.",
        secret=True,
    )


@dataclass(frozen=True, kw_only=True)
class DeskSettings(
    KeySettings,
    SealSettings,
    LedgerSettings,
    SignInSettings,
    DeskUrl,
    PaperKeySettings,
    ReceiptSettings,
    PoolerSettings,
    PublicSettings,
):
    """The settings of a desk process."""

    port: Port = setting("HOSO24_DESK_PORT", default=8095, doc="Public port of the desk, for officers.")
    admin_port: Port = setting("HOSO24_DESK_ADMIN_PORT", default=8096, doc="Port of the desk's probes and metrics.")
    pg_connections: Annotated[int, Meta(ge=2, le=10_000)] = setting(
        "HOSO24_PG_DESK_CONNECTIONS", default=8, doc="Limit of a desk process for connections to PostgreSQL."
    )


@dataclass(frozen=True, kw_only=True)
class LinkSettings(SignInSettings, DeskUrl):
    """The settings of `hoso24 desk link`."""


@dataclass(frozen=True, kw_only=True)
class RelaySettings(RelayUrl, CacheSettings, ProcessSettings):
    """The settings of a relay process."""

    admin_port: Port = setting("HOSO24_RELAY_ADMIN_PORT", default=8092, doc="Port of the relay's probes and metrics.")


@dataclass(frozen=True, kw_only=True)
class WebhooksSettings(WebhookKeySettings, WebhooksUrl, ReceiptSettings, PoolerSettings, ProcessSettings):
    """The settings of a process that delivers webhooks."""

    admin_port: Port = setting(
        "HOSO24_WEBHOOKS_ADMIN_PORT", default=8097, doc="Port of the webhooks' probes and metrics."
    )
    webhook_national: Path | None = setting(
        "HOSO24_WEBHOOK_NATIONAL",
        default=None,
        doc="TOML file that maps webhooks of the format `national` to the national portal's service "
        "(docs/webhooks.md); without it none is delivered. It holds the session that calls carry: keep it as a secret.",
    )


@dataclass(frozen=True, kw_only=True)
class RenewSettings(MigrateSettings):
    """The settings of `hoso24 cache renew`. Without Redis it is not known where followers of the log go on."""

    redis_url: Secret | None = optional(CacheSettings, "redis_url")


def _sender(text: str) -> None:
    """Raise ValueError with one sentence unless it is empty or a mail address."""
    if text:
        checked("mail", text)


def _seed(text: str) -> bytes:
    """The seed of the key that signs the books. Raises ValueError with one sentence, without the seed."""
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != 32:
        raise ValueError(
            "expected the seed of an Ed25519 key, 64 hexadecimal digits (`openssl rand -hex 32` makes one)"
        )
    return seed


@dataclass(frozen=True, kw_only=True)
class BooksSettings(ReceiptSettings):
    """What it takes to sign the books."""

    books: Path = setting(
        "HOSO24_BOOKS", doc="Directory of the books: the tree over the log, in files that only the notary writes."
    )
    books_key: Secret = setting(
        "HOSO24_BOOKS_KEY",
        doc="Seed of the Ed25519 key that signs the books, 64 hexadecimal digits. `hoso24 notary key` prints the "
        "public half.",
        secret=True,
        check=_seed,
    )
    books_origin: str = setting(
        "HOSO24_BOOKS_ORIGIN",
        default="",
        doc="Name of the books in every checkpoint, for good; by default the host of HOSO24_PUBLIC_URL and /books.",
    )

    def __post_init__(self) -> None:
        """Raises ValueError when no checkpoint can have this origin."""
        try:
            VerifierKey(self.origin, bytes(32))
        except ValueError as wrong:
            raise ValueError(f"HOSO24_BOOKS_ORIGIN: {wrong}") from None

    @property
    def origin(self) -> str:
        """The name of the books."""
        return self.books_origin or f"{urlsplit(self.public_url).netloc}/books"

    def signer(self) -> Signer:
        """The key that signs the books."""
        return Signer(self.origin, _seed(self.books_key.reveal()))


@dataclass(frozen=True, kw_only=True)
class NotarySettings(BooksSettings, SealSettings, NotaryUrl, PublicSettings):
    """The settings of the notary process."""

    port: Port = setting(
        "HOSO24_NOTARY_PORT", default=8093, doc="Public port of the notary, for the files of the books."
    )
    admin_port: Port = setting("HOSO24_NOTARY_ADMIN_PORT", default=8094, doc="Port of the notary's probes and metrics.")


@dataclass(frozen=True, kw_only=True)
class MaintenanceSettings(WriterUrl):
    """The settings of `hoso24 maintenance`."""

    notice_days: Annotated[int, Meta(ge=0, le=60)] = setting(
        "HOSO24_MAINTENANCE_NOTICE_DAYS",
        default=7,
        doc="Working days of notice before maintenance (Decree 224/2026 art. 13).",
    )


@dataclass(frozen=True, kw_only=True)
class NoticesSettings(NoticesUrl, ReceiptSettings, PoolerSettings, PublicSettings):
    """The settings of a process that tells citizens by mail and through a gateway."""

    port: Port = setting(
        "HOSO24_NOTICES_PORT", default=8099, doc="Public port of the notices: withdrawals and ratings."
    )
    admin_port: Port = setting(
        "HOSO24_NOTICES_ADMIN_PORT", default=8098, doc="Port of the notices' probes and metrics."
    )
    notices_url: str | None = setting(
        "HOSO24_NOTICES_URL",
        default=None,
        doc="Address at which citizens reach the notices' pages, if no edge leads them there from HOSO24_PUBLIC_URL.",
    )
    notice_secret: Secret = setting(
        "HOSO24_NOTICE_SECRET",
        doc="Secret of the links that withdraw a consent, 64 hexadecimal digits. With another one, links in mails that "
        "were sent before open nothing.",
        secret=True,
        check=notice_secret_of,
    )
    smtp_url: Secret | None = setting(
        "HOSO24_SMTP_URL",
        default=None,
        doc="Mail server: smtp://user:password@host:587 begins TLS (`?starttls=no`: does not), "
        "smtps://user:password@host:465 is TLS from the start, file:///directory writes mails there, for trials. "
        "Without it no mails are sent.",
        secret=True,
        check=SmtpUrl.of,
    )
    notice_sender: str = setting(
        "HOSO24_NOTICE_SENDER",
        default="",
        doc="Mail address that notices come from; its domain needs SPF and DKIM of that server.",
        check=_sender,
    )
    notice_gateway: str | None = setting(
        "HOSO24_NOTICE_GATEWAY",
        default=None,
        doc="https address of the gateway of text messages, which gets one signed webhook a notice (docs/notices.md). "
        "Without it none are sent.",
    )
    notice_gateway_secret: Secret | None = setting(
        "HOSO24_NOTICE_GATEWAY_SECRET",
        default=None,
        doc="Key that is shared with the gateway, whsec_ and base64, as Standard Webhooks has it.",
        secret=True,
        check=shared_key_of,
    )
    notice_networks: tuple[str, ...] = setting(
        "HOSO24_NOTICE_NETWORKS",
        default=(),
        doc="Networks that the gateway may be in besides public addresses.",
        check=Networks,
    )

    def __post_init__(self) -> None:
        """Raises ValueError for a channel without what it needs, and for a gateway that may not be called."""
        if self.smtp_url is not None and not self.notice_sender:
            raise ValueError("HOSO24_SMTP_URL: also needs HOSO24_NOTICE_SENDER, the address that mails come from")
        if self.notice_gateway is not None:
            if self.notice_gateway_secret is None:
                raise ValueError("HOSO24_NOTICE_GATEWAY: also needs HOSO24_NOTICE_GATEWAY_SECRET, which signs")
            try:
                Addresses(self.notice_networks).check_url(self.notice_gateway)
            except UrlRefused as refused:
                raise ValueError(f"HOSO24_NOTICE_GATEWAY: {refused}") from None
