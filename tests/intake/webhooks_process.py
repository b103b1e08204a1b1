"""A deliverer in a process of its own, so that a test may stop it: arguments are the database's URL and the lease."""

import asyncio
import sys

from intake.outgoing.addresses import Addresses
from intake.outgoing.sending import Sender
from intake.outgoing.signatures import secret_of
from intake.partners.deliver import Deliverer, Standard
from ops.stores.postgres import Postgres


async def main(url: str, lease: float, seconds: float) -> None:
    """Deliver until it is ended."""
    postgres = Postgres("postgres", lambda: url, size=4, deadline=10)
    sender = Sender(Addresses(["127.0.0.0/8"]), user_agent="test", seconds=seconds)
    formats = {"standard": Standard("urn:hoso24:test")}
    secret = secret_of("4b" * 32)
    work = Deliverer(postgres, sender, lambda: secret, formats, lease=lease, look_every=0.02, seconds=seconds)
    await work.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
