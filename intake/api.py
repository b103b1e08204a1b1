"""The intake's JSON API: receive a dossier, move it, bind its official number, read it as an officer."""

from typing import Any

import msgspec
from aiohttp import web

from intake.books.ledger import KeyedRequest, Ledger
from intake.clients import Client, Tokens
from intake.rules.requests import InvalidContent, OfficialNumber, Submission, Transition, read
from lookup import code as codes
from lookup.catalogue import CatalogueCopy
from lookup.clock import local
from lookup.lookup_key import KeyRing
from lookup.status import Status
from ops.http.bodies import read_body
from ops.http.client_address import FORWARDED, Clients

IDEMPOTENCY_KEY = "Idempotency-Key"

_encode = msgspec.json.Encoder().encode


class IntakeApi:
    """The endpoints for desks, portals and business systems; each method is one endpoint."""

    def __init__(
        self,
        ledger: Ledger,
        tokens: Tokens,
        addresses: Clients,
        catalogue: CatalogueCopy,
        keys: KeyRing,
        public_url: str,
    ) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._addresses = addresses
        self._catalogue = catalogue
        self._keys = keys
        self._public_url = public_url.rstrip("/")

    def routes(self) -> list[web.RouteDef]:
        """The route table of /api/v1."""
        return [
            web.post("/api/v1/dossiers", self.receive),
            web.get("/api/v1/dossiers/{code}", self.officers_view),
            web.post("/api/v1/dossiers/{code}/transitions", self.move),
            web.put("/api/v1/dossiers/{code}/official-number", self.bind_number),
        ]

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Receive a dossier: 201 with code, lookup key, status, due date, version and receipt.

        The due date is null until the dossier is accepted; the move to that answers with it.
        """
        client = await self._client(request)
        submission = read(await read_body(request), Submission)
        asked = KeyedRequest.of(client, _idempotency_key(request), request.path, submission)
        answer = await self._ledger.receive(asked, submission, await self._catalogue.get())
        code = codes.parse(answer["code"])
        key = self._keys.key(code, answer["key_serial"])
        receipt = {
            "number": code.text,
            "agency": submission.agency,
            "service": submission.service,
            "submitted_at": answer["submitted_at"],
            "received_at": answer["received_at"],
            "due_at": answer["due_at"],
            "issued_at": answer["issued_at"],
            "link": f"{self._public_url}/tra-cuu/{code.path}?key={key}",
        }
        body = {
            "code": code.text,
            "lookup_key": key,
            "status": answer["status"],
            "due_at": answer["due_at"],
            "version": answer["version"],
            "receipt": receipt,
        }
        return _json(body, status=201, headers={"Location": f"/api/v1/dossiers/{code.path}"})

    async def move(self, request: web.Request) -> web.StreamResponse:
        """Move a dossier: 200 with the new version; 409 with the allowed moves, 412 if the version is another."""
        client = await self._client(request)
        code = codes.parse(request.match_info["code"])
        transition = read(await read_body(request), Transition)
        asked = KeyedRequest.of(client, _idempotency_key(request), f"{code.path}/transitions", transition)
        return _json(await self._ledger.move(asked, code, transition, await self._catalogue.get()))

    async def bind_number(self, request: web.Request) -> web.StreamResponse:
        """Bind the official number: 200 with the version; 409 when it belongs to another dossier."""
        client = await self._client(request)
        code = codes.parse(request.match_info["code"])
        bound = read(await read_body(request), OfficialNumber)
        asked = KeyedRequest.of(client, _idempotency_key(request), f"{code.path}/official-number", bound)
        return _json(await self._ledger.bind_number(asked, code, bound, await self._catalogue.get()))

    async def officers_view(self, request: web.Request) -> web.StreamResponse:
        """The dossier with its applicant: 200 for a client whose scope covers the agency that has the dossier."""
        client = await self._client(request)
        code = codes.parse(request.match_info["code"])
        row = await self._ledger.officers_view(code)
        client.require("read", row["agency"], await self._catalogue.get())
        return _json(_officers_view(row))

    async def _client(self, request: web.Request) -> Client:
        address = self._addresses.client(request.remote, ",".join(request.headers.getall(FORWARDED, ())))
        return await self._tokens.authenticate(request.headers.get("Authorization"), address)


def _officers_view(row: Any) -> dict[str, Any]:
    view: dict[str, Any] = {
        name: row[name]
        for name in (
            "code",
            "version",
            "service",
            "service_case",
            "agency",
            "channel",
            "official_number",
            "action_needed",
            "subject",
        )
    }
    view |= {name: local(row[name]) for name in ("submitted_at", "received_at", "due_at", "finished_at", "returned_at")}
    status = Status(row["status"])
    view |= {"status": status.slug, "status_number": status.value, "final": status.final}
    view["timeline"] = msgspec.Raw(row["timeline"].encode())
    view["applicant"] = {name: row[f"applicant_{name}"] for name in ("kind", "name", "id", "phone", "email", "address")}
    view["next"] = [after.slug for after in Status if status.may_become(after)]
    return view


def _idempotency_key(request: web.Request) -> str | None:
    """The key without its quotes: it may be quoted (as in the IETF draft) or bare. Raises InvalidContent."""
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    key = key.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidContent(f"{IDEMPOTENCY_KEY}: a key has 1 to 255 printable ASCII characters")
    return key


def _json(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_encode(content),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"} | (headers or {}),
    )
