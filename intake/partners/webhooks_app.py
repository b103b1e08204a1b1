"""Builds and runs a process that delivers webhooks. It has no public port, and any number of them may run."""

import logging
import os

from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import Sender
from intake.outgoing.signatures import secret_of
from intake.partners.deliver import Deliverer, Format, Standard
from intake.partners.feed import source_of
from intake.partners.national import National, read_mapping
from intake.partners.subscriptions import LOTS
from intake.settings import WebhooksSettings
from lookup import schema
from lookup.codes_in_logs import conceal
from ops.http import server
from ops.http.server import Running
from ops.settings import SettingsError, describe, read
from ops.stores.breaker import Breaker
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

CONNECTIONS = 4
"""To PostgreSQL: each statement takes milliseconds, and what takes long is done without one."""


async def build(settings: WebhooksSettings) -> Running:
    """A deliverer. An unavailable PostgreSQL does not keep it from starting. Raises SettingsError for a bad mapping."""
    log.info("The settings in effect", extra={"settings": describe(settings)})
    public = settings.public_url.rstrip("/")
    formats = _formats(settings, source_of(public))
    postgres = Postgres(
        "postgres",
        settings.pg_url.reveal,
        size=CONNECTIONS,
        deadline=max(2.0, settings.pg_deadline),
        pooled=settings.pg_pooled,
        breaker=Breaker("postgres", after=3, pause=1.0),
    )
    sender = Sender(
        Addresses(settings.webhook_networks),
        user_agent=f"hoso24-webhooks (+{public}/nha-phat-trien)",
        most=sum(LOTS.values()),
    )
    deliverer = Deliverer(
        postgres,
        sender,
        lambda: secret_of(settings.webhook_secret.reveal()),
        formats,
    )

    async def schema_version() -> int:
        (row,) = await postgres.fetch(schema.STATE)
        return int(row["version"])

    async def close() -> None:
        await sender.close()
        await postgres.close()

    return Running(
        checks={"postgres": schema_version, "deliveries": deliverer.check},
        tasks=[deliverer.run, deliverer.watch],
        close=close,
    )


def _formats(settings: WebhooksSettings, source: str) -> dict[str, Format]:
    """The formats that this installation delivers. Raises SettingsError for a mapping that cannot be used."""
    formats: dict[str, Format] = {"standard": Standard(source)}
    if settings.webhook_national is not None:
        try:
            formats["national"] = National(read_mapping(settings.webhook_national))
        except ValueError as wrong:
            raise SettingsError([f"HOSO24_WEBHOOK_NATIONAL: {wrong}"]) from None
    return formats


def main() -> None:
    """Run a deliverer with the settings of the environment."""
    settings = read(WebhooksSettings, os.environ)
    server.run(
        service="webhooks",
        build=lambda _: build(settings),
        host=settings.host,
        port=None,
        admin_port=settings.admin_port,
        drain_seconds=0,
        log_level=settings.log_level,
        log_hash_key=settings.log_hash_key,
        conceal=conceal,
    )
