"""A process that tells by mail and kills itself: arguments are PostgreSQL's URL, the mail server's and after how many
mails; 0: never. It ends by itself when nothing is left to tell."""

import asyncio
import os
import signal
import sys
from email.message import EmailMessage

from intake.notices.deliver import ByMail, Deliverer
from intake.notices.mail import Outcome, Smtp
from ops.stores.postgres import Postgres
from tests.intake.told import MESSAGES, smtp

LEFT = "SELECT count(*) AS left FROM notice WHERE state = 'due'"


class Deadly:
    """Hands mails over, and kills the process before the last one is written down."""

    def __init__(self, mailer: Smtp, mails: int) -> None:
        self._mailer = mailer
        self._left = mails

    async def send(self, message: EmailMessage, to: str) -> Outcome:
        outcome = await self._mailer.send(message, to)
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    async def close(self) -> None:
        await self._mailer.close()


async def main(url: str, server: str, mails: int) -> None:
    """Tell until nothing is left, or killed."""
    postgres = Postgres("postgres", lambda: url, size=4, deadline=10)
    work = Deliverer(
        postgres, {"mail": ByMail(Deadly(smtp(server), mails), MESSAGES)}, lease=1.0, look_every=0.02, seconds=0.5
    )
    running = asyncio.ensure_future(work.run())
    while True:
        await asyncio.sleep(0.1)
        begun = await postgres.fetch("SELECT count(*) AS made FROM notice")
        if begun[0]["made"] and not (await postgres.fetch(LEFT))[0]["left"]:
            break
    running.cancel()
    await asyncio.wait([running])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
