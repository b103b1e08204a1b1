"""The lookup's pages and JSON without servers: its real routes and rules of access, over one dossier."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import msgspec
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from lookup import code as codes
from lookup.catalogue import Catalogue, load
from lookup.code import DossierCode
from lookup.dossier import Record, Shows
from lookup.lookup_key import KeyRing
from lookup.reading.access import AccessPolicy
from lookup.reading.freshness import SECOND
from lookup.reading.limits import Limits
from lookup.reading.reader import Found, Reader
from lookup.web import api, layout, pages
from lookup.web.answers import KEY_HEADER, PATH, Answers
from lookup.web.faces import PageFace
from lookup.web.form_pages import FormPages, Pointed
from ops.http.client_address import Clients
from ops.http.endpoints import serve
from tests.conftest import KEY_SECRETS

_AGENCIES, SERVICES = load.sample()
_UNKNOWN = dict.fromkeys(("hotline", "email", "address_vi", "address_en", "hours_vi", "hours_en", "complaint_url"))
AGENCIES = [msgspec.structs.replace(agency, **_UNKNOWN) for agency in _AGENCIES]
"""Of the sample, without a way to reach them: a test that is about contacts gives them its own."""
CATALOGUE = Catalogue({agency.code: agency for agency in AGENCIES}, {service.code: service for service in SERVICES})
KEYS = KeyRing.from_text(KEY_SECRETS)
PUBLIC_URL = "https://tra-cuu.example"
_UNUSED: dict[str, Any] = {
    "writer": mock.Mock(),
    "protocol": mock.Mock(peername=None, sockname=None, ssl_context=None),
}
"""What a request is given that no handler here looks at. Made once: together they would take longer than the answer."""


class Shelf:
    """What the rules of access read from, in place of a reader: one dossier, as of one moment, fresh or stale."""

    def __init__(self, record: Record, as_of: int, *, stale: bool) -> None:
        age = 7200 * SECOND if stale else 3 * SECOND
        self._found = Found(record, as_of, age, stale, "memory", 1)
        self.vitals = SimpleNamespace(shedding=SimpleNamespace(admit=mock.AsyncMock()))

    async def find(self, code: DossierCode, at_least: int = 0, **_: Any) -> Found:
        assert at_least <= self._found.record.version
        assert code.text in (self._found.record.code, self._found.record.official_number)
        return self._found

    async def behind(self, number: DossierCode) -> DossierCode | None:
        record = self._found.record
        return codes.parse(record.code) if number.text == record.official_number else None


class Offline:
    """A lookup that knows one dossier."""

    def __init__(
        self,
        record: Record,
        as_of: int,
        *,
        stale: bool = False,
        shows: Iterable[Shows] = (),
        known: Catalogue = CATALOGUE,
        maintenance: Pointed = lambda: None,
        **settings: Any,
    ) -> None:
        self.code = codes.parse(record.code)
        self.key = KEYS.key(self.code, record.key_serial)
        policy = AccessPolicy(
            cast(Reader, Shelf(record, as_of, stale=stale)), KEYS, limits=Limits(), clients=Clients(())
        )
        self.answers = Answers(lambda: known, frozenset(shows), PUBLIC_URL, **settings)
        self._app = web.Application()
        serve(self._app, api.endpoints(policy, self.answers), read=api.read)
        faces = {lang: PageFace(lang, self.answers, maintenance) for lang in layout.FORMS}
        self._app.add_routes(pages.routes(policy, self.answers, FormPages(maintenance), faces, secure=True))

    async def ask(
        self, path: str, *, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> web.Response:
        """The answer of the route that has this path. Raises the refusal where there is one."""
        payload = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
        payload.feed_data(body)
        payload.feed_eof()
        request = make_mocked_request(method, path, headers=headers, payload=payload, app=self._app, **_UNUSED)
        matched = await self._app.router.resolve(request)
        request._match_info = matched
        matched.current_app = self._app
        response = await matched.handler(request)
        assert isinstance(response, web.Response)
        return response

    async def page(self, lang: str, *, holder: bool, asked_as: str | None = None) -> str:
        """The dossier's page in this language, for anyone or, with the cookie of its key, for its holder.

        `asked_as`: the path it is asked for under, where that is not its code's.
        """
        cookie = {"Cookie": f"{layout.KEY_COOKIE}={self.key}"} if holder else {}
        response = await self.ask(f"{layout.FORMS[lang]}/{asked_as or self.code.path}", headers=cookie)
        assert response.status == 200
        assert response.text is not None
        return response.text

    async def view(self, *, holder: bool) -> Any:
        """The dossier's JSON."""
        key = {KEY_HEADER: self.key} if holder else {}
        response = await self.ask(PATH + self.code.path, headers=key)
        assert response.status == 200
        return _json(response)

    async def batch(self, *, holder: bool) -> Any:
        """The dossier's JSON out of a batch of two, the other of which is no code."""
        wanted = {"code": self.code.text} | ({"key": self.key} if holder else {})
        body = json.dumps({"dossiers": [wanted, {"code": "nonsense"}]}).encode()
        response = await self.ask("/api/v1/lookups", method="POST", body=body)
        assert response.status == 200
        found, malformed = _json(response)["results"]
        assert malformed.keys() == {"code", "error", "status", "title", "detail"}
        assert found.keys() == {"code", "dossier"}
        return found["dossier"]


def _json(response: web.Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)
