"""The page for developers of other portals: `/nha-phat-trien`, `/en/developers`.

Its figures are the limiter's, its list of errors is the classes', and a test runs every example on it against a running
installation and compares the answers that stand beside them by their structure.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from lookup import sandbox
from lookup.clock import VIETNAM
from lookup.code import MalformedCode, parse
from lookup.dossier import Anonymous
from lookup.lookup_key import KeyRing, MalformedKey
from lookup.reading.access import DossierNotFound, DossierOrKeyNotFound, KeyRequired
from lookup.reading.limits import HOME, NETWORK, Rate, TooManyRequests
from lookup.reading.read_through import StatusUnavailable, VersionNotReached
from lookup.reading.shedding import Overloaded
from lookup.status import Status
from lookup.web.answers import KEY_HEADER, PATH, Answers, etag
from lookup.web.api import DOSSIERS_IN_A_REQUEST, EXAMPLE_CODE, MalformedLookups
from lookup.web.catalogue_pages import CatalogueUnread, NoSuchService
from lookup.web.codings import Finished
from lookup.web.figure_pages import NoFiguresOfAgency
from lookup.web.layout import DEVELOPERS, FORMS, language, other_language, page_headers, render
from lookup.web.phrases import PHRASES
from lookup.web.ready import html_page
from ops.errors import (
    AddressTooLong,
    HeadTooLarge,
    Internal,
    Malformed,
    MethodNotAllowed,
    NoSuchPath,
    Refusal,
    TooLarge,
    Unavailable,
)
from ops.http.bodies import BodyTooSlow, UnsupportedCoding
from ops.http.developer_pages import DOCS, OPENAPI
from ops.http.expectations import UnknownExpectation
from ops.http.openapi import About
from ops.http.parameters import InvalidParameter
from ops.http.problems import HTTP_STATUS

CODE, UNKNOWN = EXAMPLE_CODE, "G99.01.02-261008-9999"
KEY = "2KQ0F-9D3XZ-7MHWA"
ERRORS: tuple[type[Refusal], ...] = (
    *(Malformed, InvalidParameter, MalformedCode, MalformedKey, MalformedLookups, BodyTooSlow, KeyRequired),
    *(DossierNotFound, DossierOrKeyNotFound, NoSuchService, NoFiguresOfAgency, NoSuchPath, MethodNotAllowed),
    *(VersionNotReached, TooLarge),
    *(AddressTooLong, UnsupportedCoding, UnknownExpectation, TooManyRequests, HeadTooLarge),
    *(Internal, Overloaded, StatusUnavailable, CatalogueUnread, Unavailable),
)
"""Every refusal of the API, in the order of the HTTP statuses."""

_RATES = (Rate.MISSING.allowance, Rate.WRONG_KEY.allowance, Rate.PRIMARY.allowance, *NETWORK, *HOME)
_KEPT = "public, max-age=300"
_AT = "2026-10-08T08:15:00+07:00"


def about(public_url: str) -> About:
    """What the document for programs says of the lookup, which is reached at `public_url`."""
    return About(
        title="HoSo24 lookup: where a dossier stands",
        says=(
            "Tells anyone who has its code where a dossier stands, and the holder of its lookup key more. No token is "
            "needed. Pages of other sites may read every GET here from a browser, except with a lookup key."
        ),
        server=public_url.rstrip("/"),
    )


def _now() -> datetime:
    return datetime.now(VIETNAM)


def routes(answers: Answers, keys: KeyRing, now: Callable[[], datetime] = _now) -> list[web.RouteDef]:
    """The page in both languages; `keys` makes the lookup keys of the sandbox's dossiers, where there is a sandbox.

    It is made anew only when the entity tags that its examples show are other ones, and for the sandbox every hour.
    """
    made: dict[str, tuple[object, Finished]] = {}

    async def developers(request: web.Request) -> web.StreamResponse:
        lang = language(request)
        tried = _sandbox(answers, keys, now())
        known, made_of = made.get(lang), (answers.anonymous, tried and tried["hour"])
        if known is None or known[0] != made_of:
            page = html_page(_page(answers, lang, tried), page_headers(_KEPT))
            known = made[lang] = (made_of, page)
        return known[1].answer(request)

    return [web.get(address, developers) for address in DEVELOPERS.values()]


def _page(answers: Answers, lang: str, tried: Mapping[str, Any] | None) -> str:
    context = {
        "other_url": DEVELOPERS[other_language(lang)],
        "examples": examples(answers, lang) | _of_sandbox(answers, tried),
        "docs_url": DOCS,
        "openapi_url": OPENAPI,
        "most": DOSSIERS_IN_A_REQUEST,
        "rates": _rates(lang),
        "refusals": _refusals(lang),
        "sandbox": tried,
    }
    return render("developers.html", lang, context)


def _sandbox(answers: Answers, keys: KeyRing, now: datetime) -> dict[str, Any] | None:
    """The dossiers of the sandbox that developers may try, with their keys; None where there is no sandbox."""
    root = sandbox.root(answers.catalogue)
    if root is None:
        return None
    fixed = [(status, sandbox.fixed(root, status)) for status in Status]
    hour = sandbox.moving(root, now)
    return {
        "own": root + sandbox.OWN,
        "fixed": [{"status": each.slug, "code": code.text, "key": keys.key(code, 0)} for each, code in fixed],
        "hour": {"code": hour.text, "key": keys.key(hour, 0)},
    }


def _of_sandbox(answers: Answers, tried: Mapping[str, Any] | None) -> dict[str, str]:
    """The example of the sandbox, whose code and key are real."""
    if tried is None:
        return {}
    asked = tried["fixed"][Status.SUPPLEMENT_REQUIRED - 1]
    return {"sandbox": f"curl -s -H '{KEY_HEADER}: {asked['key']}' {answers.public_url}{PATH}{asked['code']}"}


def examples(answers: Answers, lang: str) -> dict[str, str]:
    """Name → text of every example. One that ends in `_answer` is what the one without it gets."""
    base, form = answers.public_url, FORMS[lang]
    api, t = f"{base}{PATH}{CODE}", PHRASES[lang]
    field = "ma" if lang == "vi" else "code"
    batch = {"dossiers": [{"code": CODE}, {"code": "123"}]}
    text = [t["text.status"].format(code=CODE, status=t["status.received.name"]), t["case.2.lead"]]
    return {
        "form": (
            f'<form action="{base}{form}" method="get">\n'
            f'<label for="ho-so">{t["form.code"]}</label>\n'
            f'<input id="ho-so" name="{field}" required autocomplete="off">\n'
            f'<button type="submit">{t["form.submit"]}</button>\n</form>'
        ),
        "link": f"{base}{form}/{CODE}",
        "link_spelt": f"{base}{form}/{CODE.lower()}",
        "link_query": f"{base}{form}?{field}={CODE.replace('-', '+')}",
        "lookup": f"curl -s {api}",
        "lookup_answer": _json(_anonymous()),
        "held": f"curl -s -o /dev/null -w '%{{http_code}}' -H 'If-None-Match: {etag(1, 1, answers.anonymous)}' {api}",
        "held_answer": "304",
        "at_least": f"curl -s '{api}?at_least=1'",
        "statuses": f"curl -s {base}/api/v1/statuses",
        "service": f"curl -s {base}/api/v1/service-status",
        "holder": f"curl -s -H '{KEY_HEADER}: {KEY}' {api}",
        "holder_answer": _json(_holder(base)),
        "stale_answer": _json(_anonymous() | {"stale": True, "as_of": "2026-10-08T18:05:27.391420+07:00"}),
        "batch": f"curl -s -d '{json.dumps(batch)}' {base}/api/v1/lookups",
        "batch_answer": _json({"results": [{"code": CODE, "dossier": _anonymous()}, _refused()]}),
        "text": f"curl -s {base}{form}/{CODE}.txt",
        "text_answer": "\n".join([*text, t["text.as_of"].format(when=_WHEN[lang])]),
        "browser": f'fetch("{api}").then(answer => answer.json()).then(dossier => console.log(dossier.status))',
        "missing": f"curl -s -i {base}{PATH}{UNKNOWN}",
        "missing_answer": _json(_problem()),
    }


_WHEN = {"vi": "18:05 ngày 08/10/2026", "en": "8 October 2026, 18:05"}


def _anonymous() -> dict[str, Any]:
    received = Status.RECEIVED
    fields: dict[str, Any] = dict.fromkeys(Anonymous.__struct_fields__)
    return fields | {
        "code": CODE,
        "status": received.slug,
        "status_number": received.value,
        "final": received.final,
        "completion": 0.25,
        "version": 1,
    }


def _holder(base: str) -> dict[str, Any]:
    agency = {"code": "G99.01.02", "name": "Cơ quan mẫu (hư cấu)", "name_en": "Sample agency (fictitious)"}
    step: dict[str, Any] = {"at": _AT, "status": "received", "agency": agency, "department": None}
    step |= {"late": False, "due_at": None, "task": None, "work": None}
    return _anonymous() | {
        "due_at": "2026-10-20T08:15:00+07:00",
        "submitted_at": _AT,
        "received_at": _AT,
        "finished_at": None,
        "returned_at": None,
        "service": {"code": "S.004", "name": "Dịch vụ mẫu", "name_en": "Sample service"},
        "agency": agency,
        "origin": agency,
        "official_number": None,
        "timeline": [step],
        "action_needed": None,
        "outcome": None,
        "reason": None,
        "pauses": [],
        "supplements": 0,
        "reappointments": 0,
        "receipt": {"number": CODE, "link": f"{base}{FORMS['vi']}/{CODE}"},
    }


def _refused() -> dict[str, Any]:
    told = {"code": "123", "error": MalformedCode.code, "status": 400, "title": MalformedCode.title}
    try:
        parse("123")
    except MalformedCode as refusal:
        told["detail"] = refusal.detail
    return told


def _problem() -> dict[str, Any]:
    return {
        "type": f"urn:hoso24:problem:{DossierNotFound.code}",
        "title": DossierNotFound.title,
        "status": 404,
        "code": DossierNotFound.code,
        "request_id": "5f1c9a72d3e84b06",
    }


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1)


def _rates(lang: str) -> list[dict[str, Any]]:
    t = PHRASES[lang]
    return [
        {
            "name": allowance.word,
            "what": t[f"developers.rate.{allowance.word}"],
            "figures": t["developers.rate"].format(burst=allowance.burst, hour=round(3600 / allowance.interval)),
            "policy": allowance.policy,
        }
        for allowance in _RATES
    ]


def _refusals(lang: str) -> list[dict[str, Any]]:
    return [
        {
            "code": each.code,
            "status": HTTP_STATUS[each.kind],
            "title": each.title_vi if lang == "vi" else each.title,
        }
        for each in ERRORS
    ]
