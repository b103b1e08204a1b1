"""The service's own status on the public port: a page in each language and JSON, served from memory.

The pulse remakes them once a second; a request only sends the finished bytes. They state when they were made, so a
process whose pulse has stopped is recognisable.
"""

from typing import Any

import msgspec
from aiohttp import hdrs, web
from msgspec import UNSET, UnsetType

from lookup.clock import Micros, Zoned, local, moment
from lookup.maintenance import Notice, Part
from lookup.reading.freshness import SECOND
from lookup.upkeep.service_status import PartState, Reason, ServiceStatus, View
from lookup.web import layout
from lookup.web.dates import machine_time, when
from lookup.web.layout import SERVICE_STATUS, page_headers
from lookup.web.phrases import PHRASES, PartWords, all_parts_phrase, part_words
from ops.http.endpoints import Endpoint, encode

API = "/api/v1/service-status"
OLD_AFTER = 60 * SECOND
"""Age in microseconds from which the page states when announcements were last read."""

# A CDN may cache it for five seconds: demand for this page is highest during an outage.
_CACHED = "public, max-age=5"
_WORST_FIRST = (PartState.DOWN, PartState.LIMITED, PartState.UNKNOWN, PartState.WORKING)


class PartStatus(msgspec.Struct, frozen=True):
    """The state of a part of the service; unless it works, why not, and since when (null: not known)."""

    state: PartState
    reason: Reason | UnsetType = UNSET
    since: Zoned | UnsetType | None = UNSET


class BothTexts(msgspec.Struct, frozen=True):
    """An announcement's text in each language."""

    vi: str
    en: str


class AnnouncedMaintenance(msgspec.Struct, frozen=True):
    """One announced maintenance."""

    number: int
    starts_at: Zoned
    ends_at: Zoned
    running: bool
    affects: list[Part]
    text: BothTexts
    announced_at: Zoned


class WholeStatus(msgspec.Struct, frozen=True):
    """The service's own status `at` this moment: the worst state of its parts, each part, the announced maintenance.

    `heartbeat_age_seconds` is null before the first heartbeat, `maintenance_read_at` before announcements were read.
    """

    at: Zoned
    state: PartState
    parts: dict[Part, PartStatus]
    heartbeat_age_seconds: float | None
    maintenance: list[AnnouncedMaintenance]
    maintenance_read_at: Zoned | None


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
        self._json = encode(shown(view))
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

    async def service_status(self, _: web.Request) -> web.Response:
        """The same as JSON. Always 200, also during an outage."""
        return web.Response(body=self._json, content_type="application/json", headers={hdrs.CACHE_CONTROL: _CACHED})


def endpoints(board: ServiceBoard) -> list[Endpoint]:
    """The service's own status."""
    return [Endpoint(method="GET", path=API, handler=board.service_status, gives=WholeStatus)]


def routes(board: ServiceBoard) -> list[web.RouteDef]:
    """GET /tinh-trang-he-thong and /en/service-status."""
    return [web.get(address, board.page) for address in SERVICE_STATUS.values()]


def shown(view: View) -> WholeStatus:
    """The status for JSON."""
    return WholeStatus(
        at=local(view.now),
        state=_worst(view),
        parts={part: _part_status(view, part) for part in Part},
        heartbeat_age_seconds=None if view.heartbeat_age is None else round(view.heartbeat_age, 1),
        maintenance=[_announced(notice, view) for notice in view.notices],
        maintenance_read_at=local(moment(view.notices_at)) if view.notices_at else None,
    )


def _part_status(view: View, part: Part) -> PartStatus:
    condition = view.parts[part]
    if condition.reason is None:
        return PartStatus(condition.state)
    return PartStatus(condition.state, condition.reason, local(moment(condition.since)) if condition.since else None)


def _announced(notice: Notice, view: View) -> AnnouncedMaintenance:
    return AnnouncedMaintenance(
        number=notice.number,
        starts_at=local(notice.starts_at),
        ends_at=local(notice.ends_at),
        running=notice.running(view.now),
        affects=list(notice.affects),
        text=BothTexts(notice.text_vi, notice.text_en),
        announced_at=local(notice.announced_at),
    )


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
