"""The page that verifies a paper's stamp, and the addresses that a paper's two codes lead to.

A stamp is verified with public keys alone: the page works without PostgreSQL and Redis. It says what was stamped, to be
compared with the paper; from a stamp that was copied to another text only that comparison protects, so the page asks
for it before it says that the stamp is right.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web

from lookup import code as codes
from lookup.paper_stamp import LONGEST, NotStamped, PublicKeys, Stamped
from lookup.web import layout
from lookup.web.codings import Finished
from lookup.web.dates import when
from lookup.web.layout import FORMS, VERIFY, page_headers
from lookup.web.phrases import PHRASES
from lookup.web.ready import handler
from ops.settings import SettingsError

KEYS: Final = "/.well-known/hoso24-paper-keys.json"
IN_CAPITALS: Final = "/KIEM-TRA"
"""As a paper's code has it: capitals take less room in it."""
_KEPT: Final = "public, max-age=300"


def read_keys(path: Path | None) -> PublicKeys:
    """The public keys in this file; without one none. Raises SettingsError with one sentence."""
    if path is None:
        return PublicKeys({})
    try:
        return PublicKeys.from_json(path.read_bytes())
    except OSError as error:
        raise SettingsError([f"HOSO24_PAPER_PUBLIC_KEYS: {path} cannot be read ({error.strerror})."]) from None
    except ValueError as wrong:
        raise SettingsError([f"HOSO24_PAPER_PUBLIC_KEYS: {path}: {wrong}"]) from None


class PaperPages:
    """The page in both languages. `keys`: all that ever stamped papers here."""

    def __init__(self, keys: PublicKeys) -> None:
        self._keys = keys

    async def verify(self, request: web.Request) -> web.Response:
        """The form; with `s`, a stamp's text or a link to it, what it says. 200 for a wrong stamp too."""
        lang, typed = layout.language(request), request.query.get("s", "").strip()
        return self._answer(lang, typed)

    async def verify_typed(self, request: web.Request) -> web.Response:
        """303 to the same page with what was pasted, so that it can be told and opened again."""
        typed = (await request.post()).get("s", "")
        asked = typed.strip()[:LONGEST] if isinstance(typed, str) else ""
        path = VERIFY[layout.language(request)]
        raise web.HTTPSeeOther(request.url.with_path(path).with_query({"s": asked} if asked else {}).relative())

    def _answer(self, lang: str, typed: str) -> web.Response:
        words = PHRASES[lang]
        found: Stamped | None = None
        errors: list[Mapping[str, str]] = []
        if typed:
            try:
                found = self._keys.verified(typed)
            except NotStamped:
                errors = [{"text": words["verify.bad"], "href": "#s"}]
        context: dict[str, Any] = {
            "other_url": VERIFY[layout.other_language(lang)],
            "found_at": None if typed else VERIFY,
            "description": words["verify.lead"],
            "errors": errors,
            "typed": "" if found else typed[:LONGEST],
            "stamped": None if found is None else _told(found, lang),
            "verify_url": VERIFY[lang],
        }
        text = layout.render("verify.html", lang, context)
        kept = "private, no-store" if typed else _KEPT
        return web.Response(text=text, content_type="text/html", headers=page_headers(kept))


def _told(found: Stamped, lang: str) -> dict[str, Any]:
    words, stamp = PHRASES[lang], found.stamp

    def said(at: datetime | None) -> str | None:
        return when(at, lang) if at else None

    return {
        "issuer": found.key.issuer,
        "form": words[f"verify.form.{stamp.form}"],
        "code": found.code.text,
        "status_url": f"{FORMS[lang]}/{found.code.path}",
        "received_at": said(stamp.received_at),
        "due_at": said(stamp.due_at),
    }


async def holder(request: web.Request) -> web.Response:
    """What the large code on a paper leads to: 303 to the dossier's page, with the lookup key as that takes it."""
    code = codes.parse(request.match_info["code"])
    key = request.query.get("k", "")
    target = request.url.with_path(f"{FORMS['vi']}/{code.path}").with_query({"key": key} if key else {})
    raise web.HTTPSeeOther(target.relative(), headers={hdrs.CACHE_CONTROL: "no-store"})


def routes(pages: PaperPages, keys: PublicKeys) -> list[web.RouteDef]:
    """GET and POST of the page, the short addresses on papers, and the public keys themselves."""
    published = Finished(keys.to_json(), "application/json", {hdrs.CACHE_CONTROL: _KEPT})
    return [
        *(web.get(address, pages.verify) for address in (*VERIFY.values(), IN_CAPITALS)),
        *(web.post(address, pages.verify_typed) for address in VERIFY.values()),
        web.get("/G/{code:.+}", holder),
        web.get("/g/{code:.+}", holder),
        web.get(KEYS, handler(published)),
    ]
