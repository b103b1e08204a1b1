"""The intake's JSON API: receive a dossier, move it, bind its official number, correct it, read it as an officer."""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from intake.books.ledger import KeyedRequest, Ledger
from intake.clients import Client, Tokens
from intake.refusals import KeyRequired
from intake.rules.requests import (
    CorrectionRequest,
    InvalidContent,
    KeyRequest,
    OfficialNumber,
    Submission,
    Transition,
    fingerprint,
    read,
)
from lookup import code as codes
from lookup.catalogue import CatalogueCopy
from lookup.clock import local
from lookup.code import DossierCode
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
            web.post("/api/v1/dossiers/{code}/corrections", self.correct),
            web.post("/api/v1/dossiers/{code}/key", self.key),
        ]

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Receive a dossier: 201 with code, lookup key, status, due date, version and receipt.

        An online application is not accepted yet: it is answered with a confirmation, and the move that accepts it with
        the receipt and the due date.
        """
        client, body = await self._client(request), await read_body(request)
        submission = read(body, Submission)
        asked = _keyed(client, request, request.path, body)
        answer = await self._ledger.receive(asked, submission, await self._catalogue.get())
        code = codes.parse(answer["code"])
        slip = self._slip(code, answer)
        content = {
            "code": code.text,
            "lookup_key": self._keys.key(code, answer["key_serial"]),
            "status": answer["status"],
            "due_at": answer["due_at"],
            "version": answer["version"],
            "receipt" if answer["received_at"] else "confirmation": slip,
        }
        return _json(content, status=201, headers={"Location": f"/api/v1/dossiers/{code.path}"})

    async def move(self, request: web.Request) -> web.StreamResponse:
        """Move a dossier: 200 with the new version, and the receipt if the move accepts it; 409 with the allowed moves,
        412 if the version is another."""
        client, body = await self._client(request), await read_body(request)
        code = codes.parse(request.match_info["code"])
        transition = read(body, Transition)
        asked = _keyed(client, request, f"{code.path}/transitions", body)
        answer = await self._ledger.move(asked, code, transition, await self._catalogue.get())
        accepted = answer.pop("accepted", None)
        return _json(answer if accepted is None else answer | {"receipt": self._slip(code, accepted)})

    async def bind_number(self, request: web.Request) -> web.StreamResponse:
        """Bind the official number: 200 with the version; 409 when it belongs to another dossier."""
        client, body = await self._client(request), await read_body(request)
        code = codes.parse(request.match_info["code"])
        bound = read(body, OfficialNumber)
        asked = _keyed(client, request, f"{code.path}/official-number", body)
        return _json(await self._ledger.bind_number(asked, code, bound, await self._catalogue.get()))

    async def correct(self, request: web.Request) -> web.StreamResponse:
        """Correct what was written wrongly: 200 with the version and the names of the corrected fields."""
        client, body = await self._client(request), await read_body(request)
        code = codes.parse(request.match_info["code"])
        correction = read(body, CorrectionRequest)
        asked = _keyed(client, request, f"{code.path}/corrections", body)
        return _json(await self._ledger.correct(asked, code, correction, await self._catalogue.get()))

    async def key(self, request: web.Request) -> web.StreamResponse:
        """The lookup key for an applicant who has none: 200 with code, version, lookup key and link."""
        client, body = await self._client(request), await read_body(request)
        code = codes.parse(request.match_info["code"])
        wanted = read(body, KeyRequest)
        asked = _keyed(client, request, f"{code.path}/key", body)
        answer = await self._ledger.key(asked, code, wanted, await self._catalogue.get())
        key = self._keys.key(code, answer["key_serial"])
        return _json(
            {"code": code.text, "version": answer["version"], "lookup_key": key, "link": self._link(code, key)}
        )

    async def officers_view(self, request: web.Request) -> web.StreamResponse:
        """The dossier with its applicant: 200 for a client whose scope covers an agency that has to do with it."""
        client = await self._client(request)
        code = codes.parse(request.match_info["code"])
        client.require_action("read")
        return _json(_officers_view(await self._ledger.officers_view(client, code, await self._catalogue.get())))

    def _slip(self, code: DossierCode, accepted: Mapping[str, Any]) -> dict[str, Any]:
        """A receipt; of an online application the confirmation that it has come in."""
        key = self._keys.key(code, accepted["key_serial"])
        told = ("agency", "service", "submitted_at", "received_at", "due_at", "issued_at")
        return {"number": code.text} | {name: accepted[name] for name in told} | {"link": self._link(code, key)}

    def _link(self, code: DossierCode, key: str) -> str:
        return f"{self._public_url}/tra-cuu/{code.path}?key={key}"

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
            "origin",
            "channel",
            "official_number",
            "outcome",
            "reason",
            "action_needed",
            "supplements",
            "reappointments",
            "subject",
        )
    }
    view |= {name: local(row[name]) for name in ("submitted_at", "received_at", "due_at", "finished_at", "returned_at")}
    status = Status(row["status"])
    view |= {"status": status.slug, "status_number": status.value, "final": status.final}
    view["pauses"] = msgspec.Raw(row["pauses"].encode())
    view["timeline"] = msgspec.Raw(row["timeline"].encode())
    view["applicant"] = {name: row[f"applicant_{name}"] for name in ("kind", "name", "id", "phone", "email", "address")}
    view["next"] = [after.slug for after in Status if status.may_become(after)]
    return view


def _keyed(client: Client, request: web.Request, path: str, body: bytes) -> KeyedRequest:
    """The request under its idempotency key, which is quoted (as in the IETF draft) or bare.

    Raises KeyRequired, InvalidContent, MalformedJson.
    """
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        raise KeyRequired(
            f"Send {IDEMPOTENCY_KEY} with a value of your own, and the same one when you repeat a request."
        )
    key = key.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise InvalidContent(f"{IDEMPOTENCY_KEY}: a key has 1 to 255 printable ASCII characters")
    return KeyedRequest(client, key, fingerprint(path, body))


def _json(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_encode(content),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"} | (headers or {}),
    )
