"""A dossier's page and its JSON are the same bytes on both ways, in every coding, for every outcome."""

import logging
import re
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from lookup.code import parse
from lookup.dossier import Record, Shows, pack
from lookup.reading import shedding
from lookup.reading.freshness import SECOND
from lookup.reading.memory import Copy, Memory
from lookup.reading.shedding import Load, Shedding
from lookup.web import faces, hotpath, layout, problem_pages, sheets
from lookup.web.answers import Answers
from ops.observe import tracing
from tests.lookup.alone import SUBMITTED, Alone, Exchange, lookup_alone
from tests.lookup.offline import CATALOGUE

KNOWN, UNKNOWN, NUMBER = parse("G99.01.01-261120-0001"), parse("G99.01.01-261120-0002"), parse("00077/2026/99901")
OTHER = parse("G99.01.01-261120-0003")
FACES = {"json": "/api/v1/dossiers/", "vi": "/tra-cuu/", "en": "/en/status/"}
CODINGS = {
    "none": (),
    "gzip": ("Accept-Encoding: gzip, deflate, br, zstd",),
    "none of gzip": ("Accept-Encoding: gzip;q=0",),
}
CODINGS |= {"any": ("Accept-Encoding: *",), "twice": ("Accept-Encoding: br", "Accept-Encoding: x-gzip")}
NORMAL = "If-Modified-Since: Sun, 22 Nov 2026 00:00:00 GMT"
"""A header that takes a request the normal way and changes nothing there."""

every_face = pytest.mark.parametrize("face", FACES)
every_page = pytest.mark.parametrize("page", ["/tra-cuu/", "/en/status/"])


def comparable(answer: Exchange) -> list[bytes]:
    """All of it but its date, the id of the request, and what is left of a rate by then."""
    whole = answer.head + b"\r\n" + answer.body
    return [
        line for line in whole.split(b"\r\n") if not line.startswith((b"Date: ", b"X-Request-Id: ", b"RateLimit: "))
    ]


async def both_ways(alone: Alone, path: str, *headers: str, method: str = "GET") -> Exchange:
    """The same bytes on both ways. Ids of requests are given, because pages of refusals show them."""
    headers = (*headers, "X-Request-Id: as-it-was-given")
    early = await alone.exchange(path, *headers, method=method)
    normal = await alone.exchange(path, *headers, NORMAL, method=method)
    assert (early.early, normal.early) == (True, False)
    assert comparable(early) == comparable(normal)
    assert early.headers["X-Request-Id"] == "as-it-was-given"
    return early


def nothing(_: Alone) -> None:
    pass


def grown_old(alone: Alone) -> None:
    alone.store.away = True
    alone.clock.at += 2 * SECOND


def removed(alone: Alone) -> None:
    del alone.store.records[KNOWN.text]
    alone.memory.clear()
    alone.redis.state.values.clear()


OUTCOMES: dict[str, tuple[str, Callable[[Alone], None], int]] = {
    "fresh": (KNOWN.path, nothing, 200),
    "of scheme D": ("01234-2026-99901", nothing, 200),
    "stale": (KNOWN.path, grown_old, 200),
    "by official number": (NUMBER.path, nothing, 200),
    "by official number, stale": (NUMBER.path, grown_old, 200),
    "there is none": (UNKNOWN.path, nothing, 404),
    "removed": (KNOWN.path, removed, 404),
    "nothing can be read": (OTHER.path, grown_old, 503),
}


@every_face
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_both_ways_send_the_same_bytes(face: str, method: str, outcome: str) -> None:
    path, happens, status = OUTCOMES[outcome]
    async with lookup_alone(soft_age=1.0) as alone:
        for code in (KNOWN.text, "01234/2026/99901"):
            alone.put(code)
        alone.store.numbers_of[NUMBER.text] = KNOWN.text
        for each in (KNOWN.path, "01234-2026-99901", NUMBER.path, UNKNOWN.path):
            await alone.exchange(FACES[face] + each)
        happens(alone)
        tags = set()
        for coding, accepts in CODINGS.items():
            answer = await both_ways(alone, FACES[face] + path, *accepts, method=method)
            packed = face != "json" and coding in ("gzip", "any", "twice")
            assert answer.status == status
            assert answer.headers.get("Content-Encoding") == ("gzip" if packed else None)
            assert (answer.headers.get("Vary") or "").startswith(
                "Hoso24-Key" if face == "json" else "Accept-Encoding"
            ) or (face == "json" and status != 200)
            if method == "GET":
                shown = answer.content.decode()
                assert (path in shown) or face == "json"
            tag = answer.headers.get("ETag")
            assert (tag is None) is ("stale" in outcome or status != 200)
            if face != "json":
                fresh = status == 200 and "stale" not in outcome
                assert answer.headers["Cache-Control"] == ("private, no-cache" if fresh else "private, no-store")
            if tag is None:
                continue
            tags.add(tag)
            again = await both_ways(alone, FACES[face] + path, *accepts, f"If-None-Match: {tag}", method=method)
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
            for name in ("Vary", "Cache-Control", "Content-Security-Policy"):
                assert again.headers[name] == answer.headers[name]
            for name in ("Content-Encoding", "Content-Type", "Content-Length"):
                assert name not in again.headers
            others = [each for each in tags if each != tag] + [tag.replace(".gz", "") if ".gz" in tag else '"1.1.0-0"']
            for other in others:
                assert (await both_ways(alone, FACES[face] + path, *accepts, f"If-None-Match: {other}")).status == 200
            for many in (f"W/{tag}", f'"other", {tag}', "*"):
                whole = await alone.exchange(FACES[face] + path, *accepts, f"If-None-Match: {many}", method=method)
                assert (whole.early, whole.status, whole.headers["ETag"]) == (False, 304, tag)
        assert len(tags) == (0 if status != 200 or "stale" in outcome else 1 if face == "json" else 2)


@every_page
async def test_minute_holds_the_tag_and_the_next_one_changes_it(page: str) -> None:
    async with lookup_alone(soft_age=1000.0) as alone:
        alone.put(KNOWN.text)
        await alone.exchange(page + KNOWN.path)
        alone.clock.at += -alone.clock.at % (60 * SECOND) + SECOND
        alone.memory.clear()
        alone.redis.state.values.clear()
        first = await both_ways(alone, page + KNOWN.path)
        alone.memory.clear()
        alone.redis.state.values.clear()
        alone.clock.at += 58 * SECOND
        await alone.exchange(page + KNOWN.path)
        second = await both_ways(alone, page + KNOWN.path)
        assert (second.headers["ETag"], second.body) == (first.headers["ETag"], first.body)
        alone.memory.clear()
        alone.redis.state.values.clear()
        alone.clock.at += 2 * SECOND
        await alone.exchange(page + KNOWN.path)
        third = await both_ways(alone, page + KNOWN.path)
        assert third.headers["ETag"] != first.headers["ETag"]
        assert third.body != first.body


@every_page
@pytest.mark.parametrize(("refused_by", "status"), [("rate", 429), ("load", 503)])
async def test_refusals_are_the_same_pages_both_ways(
    page: str, refused_by: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lookup_alone() as alone:
        if refused_by == "rate":
            for n in range(151):
                await alone.exchange(page + alone.put(f"G99.01.01-261120-{n:04d}").path)
        else:
            monkeypatch.setattr(Shedding, "level", property(lambda _: Load.COLD))
            for module in (shedding, hotpath):
                monkeypatch.setattr(module, "REFUSED_AFTER", 0.01)
        path = page + alone.put("G99.01.01-261120-0200").path
        for accepts in CODINGS.values():
            answer = await both_ways(alone, path, *accepts)
            assert answer.status == status
            assert answer.headers["Retry-After"]
            assert (b"as-it-was-given" in answer.content) is (status == 503)
            assert (b'action="' + path.encode() in answer.content) is (status == 429)


@every_page
@pytest.mark.parametrize(("path", "most"), [(UNKNOWN.path, 1), (OTHER.path, 3)], ids=["none", "away"])
async def test_ids_that_a_client_gives_make_no_sheets_of_refusals(page: str, path: str, most: int) -> None:
    """A sheet costs as much as forty pages. Only the page of an outage shows an id, and only usual lengths get one."""
    async with lookup_alone(soft_age=1.0) as alone:
        if path == OTHER.path:
            grown_old(alone)
        problem_pages._shelf._sheets.clear()
        for given in ("x" * length for length in range(1, 65)):
            answer = await alone.exchange(page + path, f"X-Request-Id: {given}", "Accept-Encoding: gzip")
            assert (answer.early, answer.status) == (True, 503 if path == OTHER.path else 404)
            assert (f'class="code">{given}<'.encode() in answer.content) is (path == OTHER.path)
        assert len(problem_pages._shelf) == most


@every_page
@pytest.mark.parametrize("cookie", ["a=b", "hoso24-list=1; theme=dark", "hoso24-key=x"])
async def test_cookie_of_a_key_alone_goes_the_normal_way(page: str, cookie: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.exchange(page + KNOWN.path)
        answer = await alone.exchange(page + KNOWN.path, f"Cookie: {cookie}")
        assert answer.early is ("hoso24-key" not in cookie)
        assert answer.status == (200 if answer.early else 400)


@every_page
@pytest.mark.parametrize("query", ["?", "?key=00000-00000-00000", "?a=b"])
async def test_page_with_a_query_goes_the_normal_way(page: str, query: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.exchange(page + KNOWN.path)
        assert not (await alone.exchange(page + KNOWN.path + query)).early


@pytest.mark.parametrize("form", ["/tra-cuu", "/en/status", "/", "/en"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_form_is_the_same_both_ways(form: str, method: str) -> None:
    async with lookup_alone() as alone:
        for accepts in CODINGS.values():
            answer = await both_ways(alone, form, *accepts, method=method)
            assert answer.status == 200
            held = f"If-None-Match: {answer.headers['ETag']}"
            assert (await both_ways(alone, form, *accepts, held, method=method)).status == 304


@pytest.mark.parametrize("form", ["/tra-cuu", "/en/status"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", ["ma=G99.01.01-261120-0001", "code=g99.01.01-261120-0001", "ma=01234/2026/99901"])
async def test_typed_code_is_redirected_both_ways(form: str, method: str, query: str) -> None:
    async with lookup_alone() as alone:
        answer = await both_ways(alone, f"{form}?{query}", method=method)
        assert answer.status == 301
        assert answer.headers["Location"] == f"{form}/{parse(query.partition('=')[2]).path}"


@pytest.mark.parametrize(
    "asked",
    [
        "/tra-cuu?",
        "/tra-cuu?ma=",
        "/tra-cuu?ma=x",
        "/tra-cuu?ma=G99.01.01-261120-0001&key=1",
        "/?ma=G99.01.01-261120-0001",
        *(f"/tra-cuu?ma=G99.01.01-261120-0001{sign}" for sign in ("%", "%20", "&", "+", ";", "=")),
        "/tra-cuu?ma=G99.01.01+261120+0001",
        "/tra-cuu?ma=G99.01.01%2D261120%2D0001",
        "/tra-cuu?ma=\udcef\udcbc\udca799.01.01-261120-0001",  # a full-width G
    ],
)
async def test_anything_else_that_is_asked_of_the_form_goes_the_normal_way(asked: str) -> None:
    async with lookup_alone() as alone:
        assert not (await alone.exchange(asked)).early


async def test_installation_that_asks_for_keys_shows_no_page_early() -> None:
    async with lookup_alone(key_for_any_status=True) as alone:
        alone.put(KNOWN.text)
        for page in ("/tra-cuu/", "/en/status/"):
            answer = await alone.exchange(page + KNOWN.path)
            assert (answer.early, answer.status) == (False, 403)
        assert (await alone.exchange("/tra-cuu")).early


@every_page
async def test_installation_that_shows_due_dates_shows_them_both_ways(page: str) -> None:
    async with lookup_alone(anonymous_shows=("due",), soft_age=1000.0) as alone:
        due = datetime(2026, 12, 9, 9, 30, tzinfo=UTC)
        alone.put(KNOWN.text, status=4, received_at=due - timedelta(days=15), due_at=due)
        await alone.exchange(page + KNOWN.path)
        first = await both_ways(alone, page + KNOWN.path)
        assert b"2026-12-09" in first.body
        assert (await both_ways(alone, page + KNOWN.path, f"If-None-Match: {first.headers['ETag']}")).status == 304


# -- what is counted and logged ----------------------------------------------------------------------------


@every_page
async def test_line_in_the_log_is_the_same_both_ways(page: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hoso24.access")
    async with lookup_alone(access_log_share=1.0) as alone:
        alone.put(KNOWN.text)
        for path in (page + KNOWN.path, page + UNKNOWN.path, page.rstrip("/"), f"{page.rstrip('/')}?ma={KNOWN.path}"):
            await alone.exchange(path)
            caplog.clear()
            await both_ways(alone, path)
            lines = [vars(record) for record in caplog.records if record.name == "hoso24.access"]
            kept = [[line.get(name) for name in ("method", "route", "status", "code_hash")] for line in lines]
            assert len(kept) == 2
            assert kept[0] == kept[1]
            assert ("{code}" in str(kept[0][1])) is (kept[0][3] is not None)


COUNTED = (
    *("hoso24_http_requests_total", "hoso24_http_request_seconds_count", "lookup_answers_total"),
    "lookup_answer_age_seconds_count",
)


def counts(alone: Alone) -> dict[str, float]:
    alone.hotpath._tally.flush()
    return {
        f"{sample.name} {sorted(sample.labels.items())}": sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name in COUNTED
    }


@every_page
async def test_both_ways_are_counted_alike(page: str) -> None:
    form = page.rstrip("/")
    asked = [page + KNOWN.path, page + UNKNOWN.path, page + NUMBER.path, form, f"{form}?ma={KNOWN.path}"]
    async with lookup_alone(soft_age=1000.0) as alone:
        alone.put(KNOWN.text)
        alone.store.numbers_of[NUMBER.text] = KNOWN.text
        gained = []
        for way in ((), (), (NORMAL,)):  # the first time all is read from the store
            before = counts(alone)
            for path in asked:
                first = await alone.exchange(path, *way)
                assert first.early is (not way)
                held = first.headers.get("ETag", '"none"')
                for more in ("Accept-Encoding: gzip", f"If-None-Match: {held}"):
                    await alone.exchange(path, *way, more)
                await alone.exchange(path, *way, method="HEAD")
            after = counts(alone)
            gained.append({key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)})
        assert gained[1] == gained[2]
        for name, each in zip(COUNTED, (5, 5, 3, 2), strict=True):
            assert sum(count for key, count in gained[1].items() if key.startswith(f"{name} ")) == 4 * each
        routes = {form, f"{page}{{code}}"}
        assert {route for key in gained[1] for route in re.findall(r"'route', '([^']*)'", key)} == routes


@every_page
async def test_page_drawn_for_a_trace_is_answered_by_aiohttp_with_the_same_bytes(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lookup_alone(soft_age=1000.0) as alone:
        alone.put(KNOWN.text)
        for path in (page + KNOWN.path, page.rstrip("/"), f"{page.rstrip('/')}?ma={KNOWN.path}"):
            await alone.exchange(path)
            untraced = await alone.exchange(path, "Accept-Encoding: gzip")
            with monkeypatch.context() as patch:
                draws = iter([True])
                patch.setattr(tracing, "draw", lambda _, draws=draws: next(draws))
                drawn = await alone.exchange(path, "Accept-Encoding: gzip")
            assert (untraced.early, drawn.early) == (True, False)
            assert comparable(untraced) == comparable(drawn)


# -- sheets of pages ---------------------------------------------------------------------------------------


@every_page
async def test_page_is_one_member_of_gzip_filled_into_a_sheet_made_for_another_dossier(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Noted(sheets.Sheet):
        def __init__(self, text: str, widths: Sequence[int]) -> None:
            super().__init__(text, widths)
            made.append(widths)

    monkeypatch.setattr(sheets, "Sheet", Noted)
    async with lookup_alone(soft_age=1000.0) as alone:
        for n in range(40):
            code = alone.put(f"G99.01.01-261120-{n:04d}")
            for _ in range(2):
                answer = await alone.exchange(page + code.path, "Accept-Encoding: gzip")
            unpacker = zlib.decompressobj(wbits=31)
            assert unpacker.decompress(answer.body).count(code.text.encode()) >= 4
            assert unpacker.eof
            assert unpacker.unused_data == b""
    assert len(made) == 1


@pytest.mark.parametrize("lang", ["vi", "en"])
async def test_template_that_uses_a_word_otherwise_is_named_and_the_page_is_rendered_each_time(
    lang: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def cuts(template: str, lang: str, context: dict[str, object]) -> str:
        context["lead"] = context["code"][:3]  # type: ignore[index]
        return render(template, lang, context)

    render = layout.render
    monkeypatch.setattr(faces, "render", cuts)
    page = f"{'/tra-cuu' if lang == 'vi' else '/en/status'}/{KNOWN.path}"
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for _ in range(3):
            answer = await alone.exchange(page, "Accept-Encoding: gzip")
            assert answer.status == 200
            assert "ETag" not in answer.headers
            assert KNOWN.text.encode() in answer.content
    said = [record.message for record in caplog.records if "is a word of a sheet" in record.message]
    assert len(said) == 1
    assert "code" in said[0]


async def test_trace_that_is_no_text_is_nothing_to_the_early_way(caplog: pytest.LogCaptureFixture) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        await alone.exchange(FACES["json"] + KNOWN.path)
        for header in ("traceparent", "X-Request-Id", "Accept-Encoding"):
            answer = await alone.exchange(FACES["json"] + KNOWN.path, f"{header}: \udcff\udcfe")
            assert (answer.early, answer.status) == (True, 200), header
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_finished_answer_is_made_once_for_each_view() -> None:
    memory, record = (
        Memory(1 << 20),
        Record(code=KNOWN.text, version=1, status=4, service="S.004", agency="G99.01.01", submitted_at=SUBMITTED),
    )
    packed = pack(record)
    memory.keep(KNOWN.text, Copy(1, 0, packed, generation=1, trusted=1))
    shown: list[frozenset[Shows]] = [frozenset(), frozenset({Shows.DUE})]
    faces_ = [faces.JsonFace(Answers(lambda: CATALOGUE, shows, "https://x"), memory) for shows in shown]
    asked = (KNOWN.text, 1, 1, packed, 0, b"", False)
    first = faces_[0].fresh(*asked, kept=True)
    assert first == faces_[0].fresh(*asked)
    assert first is faces_[0].fresh(*asked, kept=True)
    assert faces_[0].fresh(KNOWN.text, 1, 2, packed, 0, b"", False).tag != first.tag  # of bytes that are not in memory
    other = faces_[1].fresh(*asked, kept=True)  # the memory's is of another view
    assert other.view != first.view
    assert other is faces_[1].fresh(*asked, kept=True)


def test_day_of_a_page_is_vietnams() -> None:
    assert (faces._AHEAD, faces._OF_A_DAY) == (7 * 60, 24 * 60)
    assert (faces._MOST_KNOWN, faces._MOST_TIMES, faces._CONTACT_STEPS) == (4096, 256, 64)
