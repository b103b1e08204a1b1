"""Dossiers whose applicants agreed to be told, straight in the tables, and deliverers of their notices."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from intake.notices.deliver import ByMail, Deliverer
from intake.notices.mail import Mailer, Smtp
from intake.notices.messages import Messages
from intake.notices.smtp_url import SmtpUrl
from intake.notices.tokens import Tokens
from lookup.status import Status
from ops.stores.postgres import Postgres
from tests import books
from tests.conftest import Database

SECRET = bytes(range(32))
SENDER, SITE = "khong-tra-loi@hoso24.example", "https://hoso24.example"
TOKENS = Tokens(SECRET)
MESSAGES = Messages(TOKENS, SITE, SENDER)
CODE = "G99.01.01-261201-{:04}"

AGREE = "INSERT INTO consent (code, channel, address, given_by) VALUES ($1, $2, $3, 'test')"
NOTICES = "SELECT version, kind, state, tries, last FROM notice WHERE code = $1 ORDER BY version, channel"
SHORT = {"lease": 20.0, "look_every": 0.02}


def address_of(code: str) -> str:
    """Where the test's applicant is told."""
    return f"nguoi-nop-{code[-4:]}@vi-du.example"


async def receive(owner: Any, number: int, channel: str = "mail", address: str | None = None, **fields: Any) -> str:
    """A dossier that is received while its applicant agrees; its code."""
    code = CODE.format(number)
    async with owner.transaction():
        await books.receive(owner, code, **fields)
        await owner.execute(AGREE, code, channel, address or address_of(code))
    return code


async def move(owner: Any, code: str, status: Status) -> None:
    """A further step, with the times that it brings."""
    now = datetime.now(UTC)
    times: dict[str, Any] = {}
    if status in (Status.REJECTED, Status.WITHDRAWN, Status.COMPLETED, Status.RETURNED):
        times["finished_at"] = now
    if status is Status.RETURNED:
        times["returned_at"] = now
    elif not times:
        times["finished_at"] = None
    await books.append(owner, code, status=status, **times)


def smtp(url: str, **more: Any) -> Smtp:
    """Hands mails to a test's server."""
    place = SmtpUrl.of(url)
    assert isinstance(place, SmtpUrl)
    return Smtp(place, SENDER, **more)


@contextlib.asynccontextmanager
async def telling(database: Database, mailer: Mailer | None = None, **more: Any) -> AsyncIterator[Deliverer]:
    """A process that tells, until the block ends; `more` are arguments of Deliverer."""
    postgres = Postgres("postgres", lambda: database.url("hoso24_notices"), size=4, deadline=10)
    ways = more.pop("ways", None) or {"mail": ByMail(mailer, MESSAGES)}  # type: ignore[arg-type]
    work = Deliverer(postgres, ways, **SHORT | more)
    running = asyncio.ensure_future(work.run())
    try:
        yield work
    finally:
        running.cancel()
        await asyncio.wait([running])
        if mailer is not None:
            await mailer.close()
        await postgres.close()


async def notices(owner: Any, code: str) -> list[tuple[int, str, str]]:
    """Version, kind and state of a dossier's notices."""
    return [(row["version"], row["kind"], row["state"]) for row in await owner.fetch(NOTICES, code)]
