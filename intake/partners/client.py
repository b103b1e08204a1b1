"""What a client is told of itself: what it may do and where, how often, and until when with which token."""

from datetime import date

import msgspec
from aiohttp import web

from intake.admission import ADMISSION, CLIENT
from intake.budgets import Budgets, ClientLimit
from lookup.catalogue import CatalogueCopy, Named
from lookup.clock import Zoned, local
from ops.http.endpoints import ANY_CLIENT, Endpoint
from ops.stores.postgres import Postgres

TOKENS = """
SELECT n, created_at, expires_at, last_used_on
  FROM client_token
 WHERE client = $1
   AND revoked_at IS NULL
 ORDER BY n
"""


class ClientToken(msgspec.Struct, frozen=True):
    """A token that is not revoked. `expires_at` null: it does not expire; `last_used_on` null: it was never used."""

    n: int
    created_at: Zoned
    expires_at: Zoned | None
    last_used_on: date | None


class ClientView(msgspec.Struct, frozen=True):
    """A client as it is registered. Its scope is `agency` and all below it, in the sandbox or outside of it."""

    id: str
    name: str
    agency: Named
    actions: list[str]
    sandbox: bool
    limits: list[ClientLimit]
    tokens: list[ClientToken]


class ClientApi:
    """The endpoint of a client about itself."""

    def __init__(self, postgres: Postgres, catalogue: CatalogueCopy, budgets: Budgets) -> None:
        self._postgres = postgres
        self._catalogue = catalogue
        self._budgets = budgets

    def endpoints(self) -> list[Endpoint]:
        """The one endpoint; every client may call it."""
        return [
            Endpoint(
                method="GET",
                path="/api/v1/client",
                handler=self.show,
                name="client",
                gives=ClientView,
                refuses=ADMISSION,
                action=ANY_CLIENT,
            )
        ]

    async def show(self, request: web.Request) -> ClientView:
        """The client of this token: its scope, actions, limits and tokens."""
        client = request[CLIENT]
        catalogue = await self._catalogue.get()
        rows = await self._postgres.fetch(TOKENS, client.id)
        return ClientView(
            client.id,
            client.name,
            catalogue.agency_view(client.agency),
            sorted(client.actions),
            client.sandbox,
            self._budgets.limits(client.id),
            [ClientToken(n, local(created), local(expires), used) for n, created, expires, used in rows],
        )
