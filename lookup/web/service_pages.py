"""The service's own status on the public port: a page in each language and JSON, served from memory.

The pulse remakes them once a second; a request only sends the finished bytes. They state when they were made, so a
process whose pulse has stopped is recognisable.
"""

from typing import Any

import msgspec
from aiohttp import hdrs, web

from lookup.clock import Micros, local, moment
from lookup.maintenance import Notice, Part
from lookup.reading.freshness import SECOND
from lookup.upkeep.service_status import PartState, ServiceStatus, View
from lookup.web import layout
from lookup.web.dates import machine_time, when
from lookup.web.layout import SERVICE_STATUS, page_headers
from lookup.web.phrases import PHRASES, PartWords, all_parts_phrase, part_words

API = "/api/v1/service-status"
OLD_AFTER = 60 * SECOND
"""Age in microseconds from which the page states when announcements were last read."""

# A CDN may cache it for five seconds: demand for this page is highest during an outage.
_CACHED = "public, max-age=5"
_WORST_FIRST = (PartState.DOWN, PartState.LIMITED, PartState.UNKNOWN, PartState.WORKING)


class ServiceBoard:
    """The finished answers. `refresh` makes them from `status`, without I/O, in about a millisecond."""

    def __init__(self, status: ServiceStatus) -> None:
        self.status = status
        self._json = b""
        self._pages: dict[str, bytes] = {}
        self.refresh()

    def refresh(self) -> None:
        """Remake the answers from the current state."""
        view = self.status.look()
        self._json = msgspec.json.encode(as_json(view))
        self._pages = {lang: _page(view, lang).encode() for lang in SERVICE_STATUS}

    def pointed_out(self) -> tuple[Notice, bool] | None:
        """The maintenance to announce on the lookup form, and whether it is under way; None for none."""
        view = self.status.view
        notice = view.notice()
        return None if notice is None else (notice, notice.running(view.now))

    async def page(self, request: web.Request) -> web.Response:
        """The page in the address's language. Always 200, also during an outage."""
        headers = page_headers(_CACHED)
        body = self._pages[layout.language(request)]
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    async def json(self, _: web.Request) -> web.Response:
        """The same as JSON. Always 200."""
        return web.Response(body=self._json, content_type="application/json", headers={hdrs.CACHE_CONTROL: _CACHED})


def routes(board: ServiceBoard) -> list[web.RouteDef]:
    """GET /tinh-trang-he-thong, /en/service-status and /api/v1/service-status."""
    return [web.get(API, board.json), *(web.get(address, board.page) for address in SERVICE_STATUS.values())]


def as_json(view: View) -> dict[str, Any]:
    """The `state` of each part, with `reason` and `since` unless it works; then the announced maintenance."""
    return {
        "at": local(view.now),
        "state": _worst(view).value,
        "parts": {part.value: _part_json(view, part) for part in Part},
        "heartbeat_age_seconds": None if view.heartbeat_age is None else round(view.heartbeat_age, 1),
        "maintenance": [_notice_json(notice, view) for notice in view.notices],
        "maintenance_read_at": local(moment(view.notices_at)) if view.notices_at else None,
    }


def _part_json(view: View, part: Part) -> dict[str, Any]:
    condition = view.parts[part]
    document: dict[str, Any] = {"state": condition.state.value}
    if condition.reason is not None:
        document["reason"] = condition.reason.value
        document["since"] = local(moment(condition.since)) if condition.since else None
    return document


def _notice_json(notice: Notice, view: View) -> dict[str, Any]:
    return {
        "number": notice.number,
        "starts_at": local(notice.starts_at),
        "ends_at": local(notice.ends_at),
        "running": notice.running(view.now),
        "affects": [part.value for part in notice.affects],
        "text": {"vi": notice.text_vi, "en": notice.text_en},
        "announced_at": local(notice.announced_at),
    }


def _page(view: View, lang: str) -> str:
    state = _worst(view).value
    under_way = _under_maintenance(view)
    everything_works = state == PartState.WORKING.value
    context = {
        "other_url": SERVICE_STATUS[layout.other_language(lang)],
        "found_at": SERVICE_STATUS,
        "description": PHRASES[lang]["service.description"],
        "state": PartState.LIMITED.value if everything_works and under_way else state,
        "summary": all_parts_phrase("maintenance" if everything_works and under_way else state, lang, under_way),
        "parts": [_part(view, part, lang, part.value in under_way) for part in Part],
        "heartbeat": _time(view.heartbeat_at, lang),
        "looked_at": _time(view.at, lang),
        "notices": [layout.notice_words(notice, notice.running(view.now), lang) for notice in view.notices],
        "read_at": _time(view.notices_at, lang),
        "old": view.at - view.notices_at > OLD_AFTER,
    }
    return layout.render("service.html", lang, context)


def _part(view: View, part: Part, lang: str, under_maintenance: bool) -> dict[str, Any]:
    condition, t = view.parts[part], PHRASES[lang]
    reason = condition.reason and condition.reason.value
    words, state = part_words(part.value, condition.state.value, reason, lang), condition.state.value
    if under_maintenance and condition.state is PartState.WORKING:
        words = PartWords(words.name, t["maintenance.running"], t[f"maintenance.effect.{part.value}"])
        state = PartState.LIMITED.value
    return {"state": state, "words": words, "since": _time(condition.since, lang)}


def _worst(view: View) -> PartState:
    return min((condition.state for condition in view.parts.values()), key=_WORST_FIRST.index)


def _under_maintenance(view: View) -> list[str]:
    """The parts that are under maintenance now."""
    affected = {part for notice in view.notices if notice.running(view.now) for part in notice.affects}
    return [part.value for part in Part if part in affected]


def _time(at: Micros | None, lang: str) -> dict[str, str] | None:
    return {"when": when(moment(at), lang), "time": machine_time(moment(at))} if at else None
