"""Answers about one dossier: the view, its JSON, its headers and its entity tag."""

from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web

from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import local, moment
from lookup.code import DossierCode
from lookup.dossier import (
    Anonymous,
    AnonymousView,
    HolderView,
    ShownReceipt,
    Shows,
    anonymous_view,
    holder_view,
    unpack,
    unpack_essence,
)
from lookup.reading.freshness import SECOND
from lookup.reading.reader import Found
from lookup.web.contacts import Contacts
from ops.http.cross_origin import ANY_SITE
from ops.http.endpoints import Reply, encode

RENDERING = 3
"""Part of every ETag: raise it when a release renders the same record differently."""

KEY_HEADER = "Hoso24-Key"
SPELT_OTHERWISE = {"Cache-Control": "public, max-age=86400"}
"""Headers of a redirect to the canonical spelling, which depends on the address only."""
PATH = "/api/v1/dossiers/"
_READING = frozenset({"GET", "HEAD"})


class Answers:
    """Makes answers with this installation's settings: fields of the anonymous view, names, the public address.

    JSON handlers and early answers both use it, so that both send the same bytes.
    """

    def __init__(
        self,
        catalogue: Callable[[], Catalogue],
        shows: frozenset[Shows],
        public_url: str,
        *,
        hotline: str | None = None,
        acceptance_hours: int = 8,
    ) -> None:
        self._catalogue = catalogue
        self.contacts = Contacts(catalogue, hotline)
        self.acceptance_hours = acceptance_hours
        self._shows = shows
        self._public_url = public_url.rstrip("/")
        self._added = "+".join(["json", *sorted(word.value for word in shows)])
        self._shows_names = bool(shows & {Shows.AGENCY, Shows.SERVICE})
        self._view = self._added
        self._view_of: Catalogue | None = None

    @property
    def anonymous(self) -> str:
        """The name of the anonymous view, part of its ETag: added fields, and the revision of names if shown."""
        if self._shows_names and self._view_of is not self.catalogue:
            self._view_of = self.catalogue
            self._view = f"{self._added}.{self.catalogue.revision}"
        return self._view

    @property
    def public_url(self) -> str:
        """The address at which citizens reach the lookup, without a slash at its end."""
        return self._public_url

    @property
    def shows_due(self) -> bool:
        """Whether anyone sees the due date here."""
        return Shows.DUE in self._shows

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue as last read."""
        return self._catalogue()

    def anonymous_json(self, packed: bytes) -> bytes:
        """The anonymous JSON of a fresh packed record. Raises msgspec.DecodeError for another format."""
        if self._shows:
            return encode(anonymous_view(unpack(packed), self._shows, self.catalogue))
        return encode(Anonymous.of(unpack_essence(packed)))

    def answer(
        self, found: Found, code: DossierCode, *, holder: bool, stored: bool, held: Callable[[str], bool]
    ) -> Reply[AnonymousView | HolderView | msgspec.Raw]:
        """The dossier with its headers, or 304 when the client holds it (`held` says so of an entity tag).

        `stored`: whether caches may keep it and revalidate it by its tag.
        """
        canonical = None if found.record.code == code.text else codes.parse(found.record.code).path
        if not holder and not found.stale and stored:
            tag = etag(found.epoch, found.record.version, self.anonymous)
            view = None if held(tag) else self.view(found, holder=False)
            return self.fresh(view, tag, freshness_headers(found), canonical)
        headers = _headers(freshness_headers(found), canonical, not holder)
        headers["Cache-Control"] = "private, no-store" if holder else "no-store"
        return Reply(self.view(found, holder=holder), headers)

    def fresh(
        self,
        view: AnonymousView | HolderView | msgspec.Raw | None,
        tag: str,
        freshness: Mapping[str, str],
        canonical: str | None = None,
    ) -> Reply[AnonymousView | HolderView | msgspec.Raw]:
        """The answer to anyone that caches may keep; 304 without a view. `canonical`: the code behind a number."""
        headers = _headers(freshness, canonical, True)
        headers |= {"Cache-Control": "public, no-cache", "ETag": tag}
        return Reply(view, headers, 304 if view is None else None)

    def view(self, found: Found, *, holder: bool) -> AnonymousView | HolderView:
        """The dossier for its holder, or for anyone."""
        record = found.record
        view: AnonymousView | HolderView
        if holder:
            link = f"{self._public_url}/tra-cuu/{codes.parse(record.code).path}"
            view = holder_view(record, self.catalogue, ShownReceipt(record.code, link))
        else:
            view = anonymous_view(record, self._shows, self.catalogue)
        if found.stale:
            view = msgspec.structs.replace(view, stale=True, as_of=local(moment(found.as_of)))
        return view


def etag(epoch: int, version: int, view: str) -> str:
    """The entity tag: epoch, version, view and rendering, which determine the bytes. A stale answer has none."""
    return f'"{epoch}.{version}-{view}-{RENDERING}"'


def to_canonical(method: str, location: str) -> web.HTTPMove:
    """The redirect of another spelling to the canonical address: 301 for GET and HEAD, 308 for other methods.

    308 keeps method and body, but Java's HttpURLConnection and older clients do not follow it.
    """
    redirect = web.HTTPMovedPermanently if method in _READING else web.HTTPPermanentRedirect
    return redirect(location, headers=SPELT_OTHERWISE)


def freshness_headers(found: Found) -> dict[str, str]:
    """Age (RFC 9111) and Cache-Status (RFC 9211): the answer's age and origin."""
    return freshness_of(str(found.age // SECOND), stored=found.source == "postgres")


def freshness_of(age: str, *, stored: bool) -> dict[str, str]:
    """The same headers of this age in seconds. `stored`: it was read from PostgreSQL, and Redis has it now."""
    return {"Age": age, "Cache-Status": f"hoso24; {'fwd=miss; stored' if stored else 'hit'}"}


def _headers(freshness: Mapping[str, str], canonical: str | None, shared: bool) -> dict[str, str]:
    """`shared`: whether programs on any site's page may read the answer."""
    headers = {"Vary": KEY_HEADER, **(ANY_SITE if shared else {}), **freshness}
    if canonical:
        headers["Link"] = f'<{PATH}{canonical}>; rel="canonical"'
    return headers
