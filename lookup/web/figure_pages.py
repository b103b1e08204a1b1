"""The public figures: a page in each language and JSON, of all agencies or of one, for a month and its year so far.

`hoso24 figures` counts them; here they are only read, at most once for each table and count, and kept as finished
bytes. A table is read by an index, one table at a time, so that lookups keep their connections. Whether there is a
newer count is asked at most every LOOKED_FOR seconds. While PostgreSQL is away what was read before stays in use, and
says of when it is; what was not yet read is refused.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from aiohttp import web
from cachebox import LRUCache

from lookup.clock import Zoned, local
from lookup.web import layout
from lookup.web.catalogue_pages import CatalogueUnread, Copy
from lookup.web.codings import Finished
from lookup.web.dates import machine_time, month_of, when
from lookup.web.figures import CHANNELS, SCORES, Cell, FlowRow, StockRow, flow_rows, stock_rows
from lookup.web.layout import STATISTICS, page_headers
from lookup.web.phrases import PHRASES
from lookup.web.phrases.catalogue import day_phrase
from lookup.web.ready import html_page
from ops.errors import Kind, Refusal, Unavailable
from ops.http.endpoints import Endpoint, encode
from ops.http.parameters import InvalidParameter, read_query

API: Final = "/api/v1/statistics"
LOOKED_FOR: Final = 30.0
"""Seconds for which the count that was seen last is taken for the newest."""
KEPT_TABLES: Final = 1_000
"""Finished answers a process keeps: of each agency of a country for the present month."""
YEARS: Final = 2
"""How many years can be asked for: this one and the one before."""

NEWEST = """
SELECT at, stocks_on
  FROM figure_cursor
"""
# Two statements, since the reader plans each once for all values. $1: the agency; then the first month, the last, and
# the one under which the stocks stand.
_MONTHS = "(month BETWEEN ${} AND ${} OR month = ${})"
OF_AN_AGENCY = f"""
SELECT service AS of, month, channel, measure, n
  FROM figure
 WHERE agency = $1
   AND service <> ''
   AND {_MONTHS.format(2, 3, 4)}
"""  # noqa: S608 - our own words
OF_ALL = f"""
SELECT agency AS of, month, channel, measure, n
  FROM figure
 WHERE service = ''
   AND agency <> ''
   AND {_MONTHS.format(1, 2, 3)}
"""  # noqa: S608 - our own words
RATINGS = """
SELECT measure, sum(n)::bigint AS n
  FROM figure
 WHERE service = ''
   AND agency = ''
   AND month BETWEEN $1 AND $2
 GROUP BY measure
"""

_KEPT = "public, max-age=300"
_HEADERS = {"Cache-Control": _KEPT}


class NoFiguresOfAgency(Refusal):
    """The catalogue has no agency with this code."""

    kind = Kind.NOT_FOUND
    code = "agency_not_found"
    title = "There is no agency with this code."
    title_vi = "Không có cơ quan nào mang mã này."
    advice = "Take the code from the list of agencies, /api/v1/agencies."
    advice_vi = "Lấy mã cơ quan từ danh mục /api/v1/agencies."


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`agency`: its services; without it all agencies. `month`: of this year or the last; without it the present."""

    agency: (
        Annotated[str, msgspec.Meta(max_length=40, description="An agency: its services.", examples=["G99.01"])] | None
    ) = None
    month: (
        Annotated[str, msgspec.Meta(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="Of this year or the last.")]
        | None
    ) = None


class Satisfaction(msgspec.Struct, frozen=True):
    """How those found a page who said so, in the year so far: of all agencies, since a rating names none."""

    not_satisfied: int = 0
    satisfied: int = 0
    very_satisfied: int = 0


class Statistics(msgspec.Struct, frozen=True):
    """The public figures as counted at `as_of` (null: never yet), of the agency that received each dossier.

    `this_month` and `year_to_date` end with `month`; `in_hand` is as of the morning of `in_hand_on`. Rows with several
    codes in `of`, and rows without figures, would otherwise tell what became of fewer than five dossiers.
    """

    as_of: Zoned | None
    in_hand_on: date | None
    month: str
    sample: bool
    agency: str | None
    this_month: list[FlowRow]
    year_to_date: list[FlowRow]
    in_hand: list[StockRow]
    satisfaction: Satisfaction


class Count(NamedTuple):
    """Up to when the figures are counted; both None: never."""

    at: datetime | None = None
    stocks_on: date | None = None


class FigureBoard:
    """The finished answers. `fetch` runs a statement on PostgreSQL; `now`: this moment; `clock`: seconds that rise."""

    def __init__(
        self,
        copy: Copy,
        fetch: Callable[..., Awaitable[list[Any]]],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._copy, self._fetch, self._now, self._clock = copy, fetch, now, clock
        self._count: Count | None = None
        self._looked = float("-inf")
        self._ready: LRUCache[tuple[object, ...], Finished] = LRUCache(KEPT_TABLES)
        self._looking, self._making = asyncio.Lock(), asyncio.Lock()

    async def page(self, request: web.Request) -> web.Response:
        """The tables in the address's language. 200, 304, 400 for another month or parameter, 404 or 503."""
        lang, asked = layout.language(request), read_query(request.query, Asked)
        found = await self._kept(asked, lang, lambda shown: html_page(self._page(shown, lang), page_headers(_KEPT)))
        return found.answer(request)

    async def statistics(self, request: web.Request, asked: Asked) -> web.Response:
        """The same as JSON. 304 to a client that holds it."""
        found = await self._kept(asked, "json", lambda shown: Finished(encode(shown), "application/json", _HEADERS))
        return found.answer(request)

    async def _kept(self, asked: Asked, form: str, make: Callable[[Statistics], Finished]) -> Finished:
        if not self._copy.known:
            raise CatalogueUnread
        if asked.agency is not None and asked.agency not in self._copy.current.agencies:
            raise NoFiguresOfAgency
        month = self._month(asked.month)
        key = form, asked.agency, month, await self._newest(), self._copy.current.revision
        if key not in self._ready:
            async with self._making:  # a crowd that asks for one table reads it once, and never two at a time
                if key not in self._ready:
                    shown = await self._read(asked.agency, month, key[3])
                    self._ready[key] = await asyncio.to_thread(make, shown)
        return self._ready[key]

    def _month(self, asked: str | None) -> date:
        this = local(self._now()).date().replace(day=1)
        month = date.fromisoformat(f"{asked}-01") if asked else this
        if not date(this.year - YEARS + 1, 1, 1) <= month <= this:
            raise InvalidParameter(f"month: from {this.year - YEARS + 1}-01 to {this:%Y-%m}")
        return month

    async def _newest(self) -> Count:
        """Raises Unavailable if none was ever read; else the last one stays in use."""
        if self._count is not None and (self._is_recent() or self._looking.locked()):
            return self._count
        async with self._looking:
            if self._count is None or not self._is_recent():
                try:
                    rows = await self._fetch(NEWEST)
                    self._count = Count(rows[0]["at"], rows[0]["stocks_on"]) if rows else Count()
                except Unavailable:
                    if self._count is None:
                        raise
                self._looked = self._clock()
            return self._count

    def _is_recent(self) -> bool:
        return self._clock() - self._looked < LOOKED_FOR

    async def _read(self, agency: str | None, month: date, count: Count) -> Statistics:
        january = month.replace(month=1)
        months = january, month, (count.stocks_on or month).replace(day=1)
        rows = self._fetch(OF_AN_AGENCY, agency, *months) if agency else self._fetch(OF_ALL, *months)
        cells = [Cell(*row) for row in await rows]
        rated = {row["measure"]: row["n"] for row in await self._fetch(RATINGS, january, month)}
        return Statistics(
            as_of=local(count.at) if count.at else None,
            in_hand_on=count.stocks_on,
            month=f"{month:%Y-%m}",
            sample=self._copy.current.sample,
            agency=agency,
            this_month=flow_rows(cells, month, month),
            year_to_date=flow_rows(cells, january, month),
            in_hand=stock_rows(cells),
            satisfaction=Satisfaction(*(rated.get(measure, 0) for measure in SCORES)),
        )

    # -- the page ------------------------------------------------------------------------------------------

    def _page(self, shown: Statistics, lang: str) -> str:
        words, catalogue = PHRASES[lang], self._copy.current
        month = date.fromisoformat(f"{shown.month}-01")
        agency = catalogue.agencies[shown.agency] if shown.agency else None
        title = words["statistics.title"] if agency is None else words["statistics.title_of"].format(
            name=_name(agency, lang)
        )  # fmt: skip
        names = {
            code: _name(each, lang) for code, each in (catalogue.services if agency else catalogue.agencies).items()
        }

        def lines(rows: list[FlowRow] | list[StockRow]) -> list[dict[str, Any]]:
            return [
                {
                    "names": [names.get(code, code) for code in row.of],
                    "url": self._address(STATISTICS[lang], row.of[0], month)
                    if agency is None and len(row.of) == 1
                    else None,
                    "figures": row.figures,
                }
                for row in rows
            ]

        rated = shown.satisfaction
        context = {
            "other_url": self._address(STATISTICS[layout.other_language(lang)], shown.agency, month),
            "found_at": STATISTICS if agency is None and month == self._month(None) else None,
            "description": words["statistics.lead"],
            "title": title,
            "sample": shown.sample,
            "of_agency": agency is not None,
            "all_url": STATISTICS[lang],
            "api_url": self._address(API, shown.agency, month),
            "as_of": when(shown.as_of, lang) if shown.as_of else None,
            "as_of_machine": machine_time(shown.as_of) if shown.as_of else None,
            "tables": [
                {"id": "month", "title": month_of(month, lang), "rows": lines(shown.this_month)},
                {
                    "id": "year",
                    "title": words["statistics.year"].format(year=month.year, month=month_of(month, lang)),
                    "rows": lines(shown.year_to_date),
                },
            ],
            "in_hand": lines(shown.in_hand),
            "in_hand_title": words["statistics.in_hand"].format(
                day=day_phrase(shown.in_hand_on, lang) if shown.in_hand_on else "–"
            ),
            "channels": CHANNELS,
            "rated": None if agency is not None or not any(msgspec.structs.astuple(rated)) else rated,
            "months": [
                {
                    "name": month_of(each, lang),
                    "url": self._address(STATISTICS[lang], shown.agency, each),
                    "here": each == month,
                }
                for each in self._months(month)
            ],
        }
        return layout.render("statistics.html", lang, context)

    def _months(self, shown: date) -> list[date]:
        """Those of the year that is shown, and the last one of the year before."""
        this = self._month(None)
        last = 12 if shown.year < this.year else this.month
        earlier = [date(shown.year - 1, 12, 1)] if shown.year > this.year - YEARS + 1 else []
        later = [] if shown.year == this.year else [date(shown.year + 1, 1, 1)]
        return [*earlier, *(date(shown.year, n, 1) for n in range(1, last + 1)), *later]

    def _address(self, path: str, agency: str | None, month: date) -> str:
        asked = [f"agency={agency}"] if agency else []
        if month != self._month(None):
            asked.append(f"month={month:%Y-%m}")
        return path + (f"?{'&'.join(asked)}" if asked else "")


def _name(each: Any, lang: str) -> str:
    return str(each.name_vi if lang == "vi" else each.name_en or each.name_vi)


def endpoints(board: FigureBoard) -> list[Endpoint]:
    """The public figures as JSON."""
    return [
        Endpoint(
            method="GET",
            path=API,
            handler=board.statistics,
            asks=Asked,
            gives=Statistics,
            refuses=(CatalogueUnread, NoFiguresOfAgency),
        )
    ]


def routes(board: FigureBoard) -> list[web.RouteDef]:
    """GET /thong-ke and /en/statistics."""
    return [web.get(address, board.page) for address in STATISTICS.values()]
