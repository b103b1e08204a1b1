"""The public figures as page and JSON, with figures that the job itself counted, and while PostgreSQL is away."""

import asyncio
import json
from datetime import date, datetime, timedelta
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from intake.figures.counting import count
from lookup.catalogue import Catalogue
from lookup.clock import VIETNAM
from lookup.web import figure_pages
from lookup.web.catalogue_pages import CatalogueUnread
from lookup.web.figure_pages import (
    LOOKED_FOR,
    NEWEST,
    OF_ALL,
    OF_AN_AGENCY,
    FigureBoard,
    NoFiguresOfAgency,
)
from ops.errors import Unavailable
from ops.http.endpoints import serve
from ops.http.parameters import InvalidParameter
from tests import books
from tests.conftest import Database
from tests.house import lookup_at, lookup_settings
from tests.lookup.catalogues import AGENCIES, CATALOGUE
from tests.pages.lines import lines

NOW = datetime(2026, 12, 1, 9, tzinfo=VIETNAM)
AGENCY = AGENCIES[0].code
CELLS = [
    ("S.1", date(2026, 11, 1), "direct", "received", 1_234),
    ("S.1", date(2026, 11, 1), "online", "received", 20),
    ("S.1", date(2026, 11, 1), "direct", "early", 900),
    ("S.1", date(2026, 11, 1), "direct", "late", 100),
    ("S.2", date(2026, 11, 1), "direct", "received", 3),
    ("S.3", date(2026, 1, 1), "postal", "received", 4),
    ("S.3", date(2026, 11, 1), "postal", "received", 4),
    ("S.1", date(2026, 12, 1), "direct", "in_process", 70),
    ("S.1", date(2026, 12, 1), "direct", "overdue", 7),
]


class Board:
    """The routes over figures as a test wants them; `asked` counts the statements that were run."""

    def __init__(self, cells: list[Any], count: tuple[Any, Any] | None = (NOW, NOW.date())) -> None:
        self.cells, self.count, self.away = cells, count, False
        self.hangs: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.asked: list[str] = []
        self.current, self.known, self.seconds = CATALOGUE, True, 0.0
        board = FigureBoard(self, self.fetch, lambda: NOW, lambda: self.seconds)
        self.app = web.Application()
        serve(self.app, figure_pages.endpoints(board))
        self.app.add_routes(figure_pages.routes(board))

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        if self.away:
            raise Unavailable("No PostgreSQL host can be reached now.")
        self.asked.append(sql)
        if self.hangs is not None:
            self.waiting.set()
            await self.hangs.wait()
        if sql == NEWEST:
            return [] if self.count is None else [dict(zip(("at", "stocks_on"), self.count, strict=True))]
        return self.cells if sql in (OF_ALL, OF_AN_AGENCY) else [{"measure": "rated_3", "n": 12}]

    async def text(self, path: str) -> str:
        request = make_mocked_request("GET", path, app=self.app)
        request._match_info = matched = await self.app.router.resolve(request)
        response = await matched.handler(request)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return response.body.decode()

    async def json(self, path: str) -> Any:
        return json.loads(await self.text(path))


async def test_month_and_year_are_told_with_the_small_ones_together() -> None:
    told = await Board(CELLS).json(f"/api/v1/statistics?agency={AGENCY}&month=2026-11")
    (first, others), (all_year, others_of_the_year) = told["this_month"], told["year_to_date"]
    assert first["of"] == ["S.1"]
    assert first["figures"]["received"] == {"direct": 1_234, "online": 20, "postal": 0}
    assert first["figures"]["on_time_share"] == 0.9
    assert (others["of"], others["figures"]["received"]["postal"]) == (["S.2", "S.3"], 4)
    assert others_of_the_year["figures"]["received"]["postal"] == 8
    assert all_year == first
    assert told["in_hand"] == [{"of": ["S.1"], "figures": {"in_process": 70, "overdue": 7, "paused": 0}}]
    assert told["satisfaction"] == {"not_satisfied": 0, "satisfied": 0, "very_satisfied": 12}
    assert (told["as_of"], told["in_hand_on"], told["month"]) == ("2026-12-01T09:00:00+07:00", "2026-12-01", "2026-11")


async def test_page_says_the_same_in_both_languages() -> None:
    board = Board([(AGENCY, *cell[1:]) for cell in CELLS])
    vietnamese, english = await board.text("/thong-ke?month=2026-11"), await board.text("/en/statistics?month=2026-11")
    assert "Số liệu tính đến 09:00 ngày 01/12/2026." in " ".join(lines(vietnamese))
    assert "<td>1.238</td>" not in vietnamese
    assert "<td>1.237</td>" in vietnamese  # 1,234 and 3
    assert "<td>1,237</td>" in english
    assert "90,0%" in vietnamese
    assert "90.0%" in english
    assert f'href="/thong-ke?agency={AGENCY}&amp;month=2026-11"' in vietnamese
    assert 'href="/thong-ke">tháng 12/2026</a>' in vietnamese
    assert '<meta name="robots" content="noindex">' in vietnamese  # only the present month is to be found
    assert "noindex" not in await board.text("/thong-ke")


async def test_nothing_is_counted_yet() -> None:
    board = Board([], None)
    assert "Hiện chưa có số liệu." in await board.text("/thong-ke")
    told = await board.json("/api/v1/statistics")
    assert (told["as_of"], told["this_month"], told["in_hand"]) == (None, [], [])


async def test_table_is_read_once_until_it_is_counted_again() -> None:
    board = Board(CELLS)
    for _ in range(3):
        await board.json("/api/v1/statistics")
    assert board.asked.count(OF_ALL) == 1
    board.count = (NOW + timedelta(hours=1), NOW.date())
    await board.json("/api/v1/statistics")
    assert board.asked.count(NEWEST) == board.asked.count(OF_ALL) == 1
    board.seconds += LOOKED_FOR
    assert (await board.json("/api/v1/statistics"))["as_of"] == "2026-12-01T10:00:00+07:00"
    assert board.asked.count(OF_ALL) == 2


async def test_crowd_that_asks_for_one_table_reads_it_once_and_waits_for_no_other_question() -> None:
    board = Board(CELLS)
    told = await asyncio.gather(*(board.text("/thong-ke") for _ in range(20)))
    assert len(set(told)) == 1
    assert (board.asked.count(NEWEST), board.asked.count(OF_ALL)) == (1, 1)
    board.seconds += LOOKED_FOR
    board.hangs = asyncio.Event()
    slow = asyncio.ensure_future(board.text("/thong-ke"))
    await board.waiting.wait()
    assert await board.text("/thong-ke") == told[0]  # what was made before, while the other one asks for a newer count
    board.hangs.set()
    assert await slow == told[0]


async def test_what_was_read_stays_in_use_while_postgresql_is_away() -> None:
    board = Board(CELLS)
    before = await board.json("/api/v1/statistics")
    board.away = True
    board.seconds += 10 * LOOKED_FOR
    assert await board.json("/api/v1/statistics") == before
    with pytest.raises(Unavailable):
        await board.json(f"/api/v1/statistics?agency={AGENCY}")
    board.away = False
    assert await board.json(f"/api/v1/statistics?agency={AGENCY}")


async def test_nothing_was_ever_read() -> None:
    board = Board(CELLS)
    board.away = True
    with pytest.raises(Unavailable):
        await board.text("/thong-ke")
    board.known = False
    board.current = Catalogue()
    with pytest.raises(CatalogueUnread):
        await board.text("/thong-ke")


@pytest.mark.parametrize("month", ["2026-13", "2027-01", "2024-12", "2026-11-01", "0000-00", "", "11/2026"])
async def test_month_that_cannot_be_asked_for(month: str) -> None:
    with pytest.raises(InvalidParameter):
        await Board(CELLS).text(f"/thong-ke?month={month}")


async def test_agency_that_there_is_not() -> None:
    with pytest.raises(NoFiguresOfAgency):
        await Board(CELLS).text("/thong-ke?agency=G98")


@pytest.mark.servers
async def test_what_the_books_hold_is_what_the_page_says(
    writer: Any, database: Database, redis_url: str, owner: Any
) -> None:
    now = datetime.now(VIETNAM)
    for n in range(1, 8):
        code = f"G99.01.01-{now:%y%m%d}-{n:04}"
        await books.receive(writer, code, submitted_at=now - timedelta(minutes=5), due_at=now + timedelta(days=3))
        if n <= 5:
            await books.append(writer, code, status=9, finished_at=now)
    counter = await asyncpg.connect(database.url("hoso24_figures"))
    await count(counter)
    await counter.close()
    async with lookup_at(lookup_settings(database.reader_url, redis_url)) as url, aiohttp.ClientSession() as http:
        async with http.get(f"{url}/api/v1/statistics?agency=G99.01.01") as answer:
            told = await answer.json()
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        async with http.get(f"{url}/thong-ke") as answer:
            page = await answer.text()
        async with http.get(f"{url}/thong-ke?month=1999-01") as answer:
            assert (answer.status, answer.content_type) == (400, "text/html")
    (row,) = told["this_month"]
    assert (row["of"], row["figures"]["received"]["direct"], row["figures"]["early"]) == (["S.004"], 7, 5)
    assert told["in_hand"] == [{"of": ["S.004"], "figures": None}]  # two are too few
    assert "Bảo hiểm xã hội cơ sở Sông Mây" in page
