"""Builds and runs a process that tells citizens what becomes of their dossiers. Any number of them may run."""

import logging
import os

from aiohttp import web

from intake.notices.deliver import ByGateway, ByMail, Deliverer, Way
from intake.notices.mail import AT_ONCE, SEND_SECONDS, Directory, Mailer, Smtp
from intake.notices.messages import Messages
from intake.notices.morning import MorningMail
from intake.notices.pages import NoticePages, problem_page
from intake.notices.smtp_url import SmtpUrl
from intake.notices.tokens import Tokens, secret_of
from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import Sender
from intake.outgoing.signatures import shared_key_of
from intake.settings import NoticesSettings
from lookup import schema
from lookup.catalogue import CatalogueCopy
from lookup.codes_in_logs import conceal
from ops.http import server
from ops.http.client_address import Clients
from ops.http.middleware import middlewares
from ops.http.server import Running
from ops.settings import Secret, describe, read
from ops.stores.breaker import Breaker
from ops.stores.postgres import Postgres

log = logging.getLogger(__name__)

CONNECTIONS = 4
"""To PostgreSQL: each statement takes milliseconds, and what takes long is done without one."""


async def build(settings: NoticesSettings) -> Running:
    """The notices. An unavailable PostgreSQL or mail server does not keep it from starting."""
    log.info("The settings in effect", extra={"settings": describe(settings)})
    postgres = Postgres(
        "postgres",
        settings.pg_url.reveal,
        size=CONNECTIONS,
        deadline=max(2.0, settings.pg_deadline),
        pooled=settings.pg_pooled,
        breaker=Breaker("postgres", after=3, pause=1.0),
    )
    tokens = Tokens(secret_of(settings.notice_secret.reveal()))
    messages = Messages(tokens, settings.public_url, settings.notice_sender, settings.notices_url)
    mailer = None if settings.smtp_url is None else _mailer(settings.smtp_url, settings.notice_sender)
    sender = Sender(
        Addresses(settings.notice_networks), user_agent="hoso24-notices", most=AT_ONCE, seconds=SEND_SECONDS
    )
    ways: dict[str, Way] = {} if mailer is None else {"mail": ByMail(mailer, messages)}
    if settings.notice_gateway is not None and settings.notice_gateway_secret is not None:
        secret = settings.notice_gateway_secret
        ways["gateway"] = ByGateway(sender, settings.notice_gateway, lambda: shared_key_of(secret.reveal()), messages)
    if not ways:
        log.warning("Nobody is told of anything: neither HOSO24_SMTP_URL nor HOSO24_NOTICE_GATEWAY is set")
    deliverer = Deliverer(postgres, ways)
    tasks = [deliverer.run, deliverer.watch]
    if mailer is not None:
        tasks.append(MorningMail(postgres, CatalogueCopy(postgres), mailer, messages).run)
    clients = Clients(settings.trusted_proxies)
    app = web.Application(middlewares=middlewares("notices", render=problem_page, trusts=clients.trusts))
    app.add_routes(NoticePages(postgres, tokens, clients).routes())

    async def schema_version() -> int:
        (row,) = await postgres.fetch(schema.STATE)
        return int(row["version"])

    async def close() -> None:
        if mailer is not None:
            await mailer.close()
        await sender.close()
        await postgres.close()

    return Running(
        app=app,
        checks={"postgres": schema_version, "notices": deliverer.check},
        reports={"clients": clients.report},
        tasks=tasks,
        close=close,
    )


def _mailer(url: Secret, sender: str) -> Mailer:
    place = SmtpUrl.of(url.reveal())
    return Smtp(place, sender) if isinstance(place, SmtpUrl) else Directory(place)


def main() -> None:
    """Run the notices with the settings of the environment."""
    settings = read(NoticesSettings, os.environ)
    server.run(
        service="notices",
        build=lambda _: build(settings),
        host=settings.host,
        port=settings.port,
        admin_port=settings.admin_port,
        drain_seconds=settings.drain_seconds,
        log_level=settings.log_level,
        connections=settings.connections,
        log_hash_key=settings.log_hash_key,
        conceal=conceal,
    )
