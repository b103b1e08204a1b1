"""Who is let in: the client of a request, what it may do and how often, and what every answer tells it of that.

An endpoint names its action, and its budget if that is not the usual one of its method (ops/http/endpoints.py).
"""

from aiohttp import hdrs, web

from intake.budgets import READ, SYNC, WRITE, Budgets, OverBudget
from intake.clients import Client, OutOfScope, Tokens, TooManyWrongTokens, Unauthenticated
from ops.errors import Refusal
from ops.http.client_address import FORWARDED, Clients
from ops.http.endpoints import ANY_CLIENT, endpoint_of

CLIENT = web.RequestKey("client", Client)
"""The client of a request, once its token was recognised."""
TOKEN_EXPIRES = "Hoso24-Token-Expires"  # noqa: S105 - the name of a header
"""The last day of the token that was used, in Vietnam, as 2027-01-31; on every answer from 30 days before."""

ADMISSION: tuple[type[Refusal], ...] = (Unauthenticated, TooManyWrongTokens, OverBudget, OutOfScope)
"""What any endpoint for clients may refuse with."""


class Admission:
    """Recognises clients and charges their budgets, for all endpoints of a process."""

    def __init__(self, tokens: Tokens, addresses: Clients, budgets: Budgets) -> None:
        self._tokens = tokens
        self._addresses = addresses
        self._budgets = budgets

    async def admit(self, request: web.Request, action: str) -> None:
        """Recognise the client, which CLIENT then names, and charge it for the request.

        A synchronisation is charged for its lines by its own endpoint; here it is refused only if none is left. Raises
        ADMISSION's refusals, and Unavailable if the token cannot be checked.
        """
        address = self._addresses.client(request.remote, ",".join(request.headers.getall(FORWARDED, ())))
        client = await self._tokens.authenticate(request.headers.get(hdrs.AUTHORIZATION), address)
        request[CLIENT] = client
        budget = _budget_of(request)
        if budget == SYNC:
            self._budgets.require(client.id, budget)
        else:
            self._budgets.spend(client.id, budget)
        if action != ANY_CLIENT:
            client.require_action(action)

    async def tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add to an answer what is left of the budget, and when the token ends if that is soon; refusals included.

        A signal handler (`app.on_response_prepare`). Nothing for an answer to a client that was not recognised.
        """
        client = request.get(CLIENT)
        if client is None:
            return
        for name, value in self._budgets.headers(client.id, _budget_of(request)).items():
            response.headers.setdefault(name, value)
        if client.token_ends is not None:
            response.headers[TOKEN_EXPIRES] = client.token_ends.isoformat()


def _budget_of(request: web.Request) -> str:
    """The budget that its endpoint declares; by default reads are charged to `read`, all else to `write`."""
    endpoint = endpoint_of(request)
    declared = None if endpoint is None else endpoint.budget
    return declared or (READ if request.method in {hdrs.METH_GET, hdrs.METH_HEAD} else WRITE)
