"""The service's own status: judged from what is known, shown in two languages and JSON, also with everybody away."""

import html
import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, cast

import aiohttp
import pytest

from intake import sign_of_life
from intake.maintenance import Plan, announce
from intake.sign_of_life import SignOfLife
from lookup.clock import VIETNAM, moment
from lookup.maintenance import Notice, Part
from lookup.reading.freshness import SECOND
from lookup.upkeep import pulse
from lookup.upkeep.service_status import SILENT_AFTER, Condition, PartState, Reason, ServiceStatus, View
from lookup.web import service_pages
from lookup.web.phrases import PHRASES, all_parts_phrase, part_words, span_phrase
from lookup.web.service_pages import ServiceBoard, shown
from ops.errors import Unavailable
from ops.http.endpoints import encode
from ops.stores.postgres import Postgres
from tests.conftest import Database, prepare
from tests.house import House, intake_at, intake_settings, lookup_at, lookup_settings, new_token, relay_of, until
from tests.pages.lines import lines

PAGES = {"vi": "/tinh-trang-he-thong", "en": "/en/service-status"}
API = "/api/v1/service-status"
NOON = 1_763_800_000 * SECOND


# -- judging -----------------------------------------------------------------------------------------------


class Facts:
    """Everything a ServiceStatus looks at, as a test wants it. Times in seconds before now."""

    def __init__(self, **facts: Any) -> None:
        self.now_at = NOON
        self.primary = self.reachable = True
        self.redis_away = False
        self.level = 0
        self.heartbeat = self.feed = self.sign = self.seen = 1.0
        vars(self).update(facts)

    def judged(self) -> View:
        return judge(self)(self)


def judge(first: Facts) -> Callable[[Facts], View]:
    """A service status that is shown one set of facts after the other."""

    class World:
        facts = first

        def now(self) -> int:
            return self.facts.now_at

        @property
        def at(self) -> int:
            return self.ago(self.facts.feed)

        @property
        def silent(self) -> bool:
            return self.facts.feed > 5

        @property
        def open(self) -> bool:
            return self.facts.redis_away

        @property
        def level(self) -> int:
            return self.facts.level

        @property
        def all(self) -> list[Any]:
            return [self]

        @property
        def beat_at(self) -> int:
            return self.ago(self.facts.heartbeat)

        @property
        def reachable(self) -> bool:
            return self.facts.reachable

        def primaries(self) -> Any:
            return iter([self] if self.facts.primary else [])

        def ago(self, seconds: float) -> int:
            return self.facts.now_at - int(seconds * SECOND)

    world: Any = World()
    world.clock = world.feed = world.redis = world.shedding = world
    status = ServiceStatus(world, world)

    def look(facts: Facts) -> View:
        world.facts = facts
        status._sign_at = world.ago(facts.sign) if facts.sign else 0
        status._as_of = world.ago(facts.seen)
        return status.look()

    look(first)
    return look


@pytest.mark.parametrize(
    ("facts", "part", "state", "reason"),
    [
        ({}, Part.LOOKUP, PartState.WORKING, None),
        ({"redis_away": True}, Part.LOOKUP, PartState.WORKING, None),
        ({"primary": False}, Part.LOOKUP, PartState.LIMITED, Reason.DATABASE_AWAY),
        ({"primary": False, "redis_away": True}, Part.LOOKUP, PartState.LIMITED, Reason.DATABASE_AWAY),
        (
            {"primary": False, "reachable": False, "redis_away": True},
            Part.LOOKUP,
            PartState.LIMITED,
            Reason.EVERYTHING_AWAY,
        ),
        ({"level": 1}, Part.LOOKUP, PartState.WORKING, None),
        ({"level": 2}, Part.LOOKUP, PartState.LIMITED, Reason.OVERLOADED),
        ({}, Part.UPDATES, PartState.WORKING, None),
        ({"feed": 30.0}, Part.UPDATES, PartState.LIMITED, Reason.LATE),
        ({"feed": 30.0, "heartbeat": 30.0, "primary": False}, Part.UPDATES, PartState.DOWN, Reason.UNCONFIRMED),
        ({"primary": False}, Part.UPDATES, PartState.WORKING, None),
        ({}, Part.INTAKE, PartState.WORKING, None),
        ({"sign": 19.0, "seen": 0.0}, Part.INTAKE, PartState.WORKING, None),
        ({"sign": 21.0, "seen": 0.0}, Part.INTAKE, PartState.DOWN, Reason.SILENT),
        ({"sign": 90.0, "seen": 88.0}, Part.INTAKE, PartState.UNKNOWN, Reason.NOT_SEEN),
        ({"sign": 90.0, "seen": 45.0}, Part.INTAKE, PartState.DOWN, Reason.SILENT),
        ({"sign": 0.0}, Part.INTAKE, PartState.UNKNOWN, Reason.NOT_SEEN),
    ],
)
def test_parts_are_judged_by_what_is_known(
    facts: dict[str, Any], part: Part, state: PartState, reason: Reason | None
) -> None:
    condition = Facts(**facts).judged().parts[part]
    assert (condition.state, condition.reason) == (state, reason)


def test_since_is_when_it_was_last_well_known_or_first_seen_otherwise() -> None:
    look = judge(Facts())
    assert look(Facts()).parts[Part.LOOKUP] == Condition(PartState.WORKING)
    for later in (10, 20):
        view = look(Facts(primary=False, now_at=NOON + later * SECOND, feed=later + 1.0, heartbeat=later + 1.0))
        assert view.parts[Part.LOOKUP].since == NOON + 10 * SECOND
        assert view.parts[Part.UPDATES].since == NOON - SECOND  # the heartbeat says since when
    assert look(Facts(sign=400.0, seen=0.0)).parts[Part.INTAKE].since == NOON - 400 * SECOND
    assert look(Facts()).parts[Part.LOOKUP].since is None


def test_intake_gives_several_signs_before_it_counts_as_silent() -> None:
    assert 3 * sign_of_life.EVERY * SECOND < SILENT_AFTER


def notice(number: int, starts: float, ends: float, shown: float) -> Notice:
    """Hours from noon."""
    at = [moment(NOON) + timedelta(hours=hours) for hours in (starts, ends, shown)]
    words = {"text_vi": "Nâng cấp (ví dụ).", "text_en": "An upgrade (example)."}
    return Notice(
        number=number,
        starts_at=at[0],
        ends_at=at[1],
        shown_from=at[2],
        affects=(Part.LOOKUP,),
        announced_at=at[2],
        **words,
    )


def test_form_points_out_what_is_under_way_before_what_is_coming() -> None:
    parts = {part: Condition(PartState.WORKING) for part in Part}
    later, running, far, over = notice(1, 5, 6, -9), notice(2, -1, 1, -9), notice(3, 90, 91, 20), notice(4, -3, -2, -9)
    shown = View(NOON, parts, NOON, [later, running, far, over]).notice()
    assert shown is running
    assert running.running(moment(NOON))
    assert View(NOON, parts, NOON, [later, far, over]).notice() is later
    assert View(NOON, parts, NOON, [far, over]).notice() is None


def test_json_says_since_when_on_a_vietnamese_clock() -> None:
    document = json.loads(encode(shown(Facts(sign=400.0, seen=0.0).judged())))
    assert document["state"] == "down"
    assert document["parts"]["lookup"] == {"state": "working"}
    assert document["parts"]["intake"]["reason"] == "silent"
    assert document["parts"]["intake"]["since"].endswith("+07:00")
    assert document["heartbeat_age_seconds"] == 1.0


@pytest.mark.parametrize("lang", PAGES)
def test_every_state_that_can_be_has_words(lang: str) -> None:
    reasons = {
        Part.LOOKUP: (Reason.OVERLOADED, Reason.DATABASE_AWAY, Reason.EVERYTHING_AWAY),
        Part.INTAKE: (Reason.SILENT, Reason.NOT_SEEN),
        Part.UPDATES: (Reason.LATE, Reason.UNCONFIRMED),
    }
    keys = {f"part.all.{state.value}" for state in PartState} | {f"part.state.{state.value}" for state in PartState}
    keys.add("part.all.maintenance")
    for part in Part:
        for reason in (None, *reasons[part]):
            words = part_words(part.value, "working", reason and reason.value, lang)
            assert words.sentence.endswith(".")
            keys.add(f"part.{part.value}.{reason.value if reason else 'working'}")
        keys.add(f"part.{part.value}.name")
    assert {key for key in PHRASES[lang] if key.startswith("part.")} == keys
    assert all(all_parts_phrase(state.value, lang).endswith(".") for state in PartState)


@pytest.mark.parametrize(
    ("lang", "summary", "times", "running"),
    [
        (
            "vi",
            "Hệ thống đang bảo trì: Tra cứu hồ sơ.",
            ["Từ 15:16 ngày 22/11/2025", "Dữ liệu được kiểm tra lần gần nhất lúc 15:26 ngày 22/11/2025."],
            "14:26 đến 16:26 ngày 22/11/2025 Đang bảo trì",
        ),
        (
            "en",
            "Under maintenance: Checking status.",
            ["Since 22 November 2025, 15:16", "Data last checked at 22 November 2025, 15:26."],
            "14:26 to 16:26 on 22 November 2025 Under maintenance",
        ),
    ],
)
def test_maintenance_under_way_is_not_told_in_green(lang: str, summary: str, times: list[str], running: str) -> None:
    working = {part: Condition(PartState.WORKING) for part in Part}
    shown = View(NOON, working, NOON, [notice(1, -1, 1, -9)], notices_at=NOON)
    read = lines(service_pages._page(shown, lang))
    assert [line for line in read if line.startswith("# ")] == [f"# {PHRASES[lang]['service.title']}: {summary}"]
    assert "{act}" in read
    assert "{good}" not in read
    words = PHRASES[lang]
    part = f"{words['part.lookup.name']} {words['maintenance.running']} {words['maintenance.effect.lookup']}"
    assert part in [line for line in read if words["part.lookup.name"] in line]
    assert f"### {running}" in read
    assert times[1] in read
    broken = working | {Part.INTAKE: Condition(PartState.DOWN, Reason.SILENT, NOON - 600 * SECOND)}
    read = lines(service_pages._page(View(NOON, broken, NOON, [notice(1, -1, 1, -9)], notices_at=NOON), lang))
    assert f"# {PHRASES[lang]['service.title']}: {all_parts_phrase('down', lang)}" in read
    assert any(times[0] in line for line in read)


# -- at real servers ---------------------------------------------------------------------------------------


@pytest.fixture
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked every few seconds is asked several times a second."""
    monkeypatch.setattr(pulse, "EVERY", 0.2)
    monkeypatch.setattr(pulse, "SERVICE_EVERY", 0.2)


@pytest.fixture
async def house(quick_pulse: None, database: Database, redis_url: str) -> AsyncIterator[House]:
    async with (
        lookup_at(lookup_settings(database.reader_url, redis_url)) as lookup_url,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        relay_of(database, redis_url),
        aiohttp.ClientSession() as http,
    ):
        yield House(lookup_url, intake_url, http, await new_token(database))


async def status_of(house: House, path: str = API) -> Any:
    status, document = await house.lookup(path)
    assert status == 200
    return document


async def page(house: House, path: str) -> str:
    """A page's text as it reads."""
    async with house.http.get(house.lookup_url + path) as response:
        assert response.status == 200
        text = await response.text()
    assert "<script" not in text
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)))


async def test_everything_works_once_everything_runs(house: House) -> None:
    async def working() -> Any:
        document = await status_of(house)
        return document["state"] == "working" and document

    document = await until(working)
    assert document["parts"] == {part.value: {"state": "working"} for part in Part}
    assert 0 <= document["heartbeat_age_seconds"] < 5
    assert document["maintenance"] == []
    assert document["maintenance_read_at"]
    for lang, path in PAGES.items():
        text = await page(house, path)
        assert all_parts_phrase("working", lang) in text
        assert PHRASES[lang]["service.planned.none"] in text


async def test_pages_lead_to_each_other_and_from_every_page(house: House) -> None:
    for lang, path in PAGES.items():
        other = PAGES["en" if lang == "vi" else "vi"]
        async with house.http.get(house.lookup_url + path) as response:
            assert response.headers["Cache-Control"] == "public, max-age=5"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            text = await response.text()
        assert f'<html lang="{lang}">' in text
        assert f'href="{other}"' in text
        async with house.http.get(house.lookup_url + ("/tra-cuu" if lang == "vi" else "/en/status")) as response:
            assert f'href="{path}"' in await response.text()
    async with house.http.head(house.lookup_url + API) as response:
        assert response.status == 200


async def test_announced_maintenance_is_shown_and_pointed_out_on_the_form(house: House, writer: Any) -> None:
    now = await writer.fetchval("SELECT now()")
    hostile = "<script>alert(1)</script>{{7*7}}"
    soon = Plan(
        now + timedelta(hours=2), now + timedelta(hours=4), [Part.INTAKE], f"Ví dụ {hostile}", "An example.", "a test"
    )
    number = await announce(writer, soon, by="a test", notice_days=7)

    async def shown() -> Any:
        return (await status_of(house))["maintenance"]

    (document,) = await until(shown)
    assert (document["number"], document["affects"], document["running"]) == (number, ["intake"], False)
    assert document["text"]["en"] == "An example."
    for path in (PAGES["vi"], "/tra-cuu", "/", "/tra-cuu?ma="):
        async with house.http.get(house.lookup_url + path) as response:
            text = await response.text()
        assert "&lt;script&gt;" in text, path
        assert "{{7*7}}" in text, path
        assert "<script" not in text, path
    when = span_phrase(soon.starts_at.astimezone(VIETNAM), soon.ends_at.astimezone(VIETNAM), "en")
    shown_on_form = await page(house, "/en/status")
    part = PHRASES["en"]["part.intake.name"]
    assert f"Planned maintenance: {part}, {when}." in shown_on_form
    assert "An example." in shown_on_form
    running = Plan(now - timedelta(hours=1), now + timedelta(hours=1), [Part.LOOKUP], "Đang làm.", "Now.", "a test")
    await announce(writer, running, by="a test", notice_days=7)

    async def under_way() -> bool:
        text, part = await page(house, "/en"), PHRASES["en"]["part.lookup.name"]
        return f"Under maintenance: {part}." in text and "Now." in text

    await until(under_way)
    await writer.execute(
        "INSERT INTO maintenance_withdrawal (number, withdrawn_by, reason) SELECT number, 'x', 'x' FROM maintenance"
    )

    async def gone() -> bool:
        return not (await status_of(house))["maintenance"]

    await until(gone)
    text = await page(house, "/en")
    assert "An example." not in text
    assert "Now." not in text


async def test_intake_that_falls_silent_is_down_since_its_last_sign(house: House, owner: Any) -> None:
    async def intake(state: str) -> Any:
        part = (await status_of(house))["parts"]["intake"]
        return part["state"] == state and part

    await until(lambda: intake("working"))
    # Taking the grant away stands for whatever keeps an intake from committing.
    await owner.execute("REVOKE UPDATE (at), INSERT ON sign_of_life FROM hoso24_writer")
    last = await owner.fetchval("UPDATE sign_of_life SET at = now() - interval '10 minutes' RETURNING at")
    part = await until(lambda: intake("down"))
    assert part["reason"] == "silent"
    assert datetime.fromisoformat(part["since"]) == last
    assert part_words("intake", "down", "silent", "vi").sentence in await page(house, PAGES["vi"])


async def test_lookup_that_may_not_read_notices_answers_all_the_same(house: House, owner: Any) -> None:
    await owner.execute("REVOKE SELECT ON maintenance FROM hoso24_reader")

    async def lasts(seconds: float) -> bool:
        """Whether the pulse goes on, and has not read them for so long."""
        document = await status_of(house)
        at, read_at = (datetime.fromisoformat(document[name]) for name in ("at", "maintenance_read_at"))
        return at - read_at > timedelta(seconds=seconds)

    await until(lambda: lasts(1.0))
    status, _ = await house.lookup("/api/v1/dossiers/G99.12.01-260101-9999")
    assert status == 404
    await owner.execute("GRANT SELECT ON maintenance TO hoso24_reader")

    async def over() -> bool:
        return not await lasts(0.5)

    await until(over)


async def test_sign_is_renewed_only_when_it_is_old_and_may_be_refused(
    database: Database, writer: Any, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    postgres = Postgres("postgres", lambda: database.writer_url, size=1, deadline=5.0)
    sign = SignOfLife(postgres, deadline=5.0)
    try:
        with pytest.raises(Unavailable):
            await sign.check()  # nothing has been committed yet
        await sign.give()
        await sign.check()
        first = await writer.fetchval("SELECT at FROM sign_of_life")
        await sign.give()  # another process, a moment later
        assert await writer.fetchval("SELECT at FROM sign_of_life") == first
        await writer.execute("UPDATE sign_of_life SET at = at - interval '1 minute'")
        await sign.give()
        again = await writer.fetchval("SELECT at FROM sign_of_life")
        assert again >= first
        await owner.execute("REVOKE UPDATE (at), INSERT ON sign_of_life FROM hoso24_writer")
        caplog.clear()
        for _ in range(2):
            await sign.give()  # no reason for an intake to end
            with pytest.raises(Unavailable, match="permission denied"):
                await sign.check()
        assert len(caplog.records) == 1
        assert await writer.fetchval("SELECT at FROM sign_of_life") == again
    finally:
        await postgres.close()


@pytest.mark.usefixtures("quick_pulse")
async def test_status_is_told_from_memory_while_postgres_and_redis_are_away(fragile: Callable[..., Any]) -> None:
    postgres, valkey = fragile()
    database = await prepare(postgres.admin_url, "hoso24")
    async with (
        lookup_at(lookup_settings(database.reader_url, valkey.url)) as lookup_url,
        intake_at(intake_settings(database.writer_url)) as intake_url,
        relay_of(database, valkey.url),
        aiohttp.ClientSession() as http,
    ):
        house = House(lookup_url, intake_url, http, "")

        async def is_in(state: str, *reasons: str | None) -> Any:
            document = await status_of(house)
            parts = [document["parts"][part].get("reason") for part in ("lookup", "updates")]
            return document["state"] == state and parts == list(reasons) and document

        await until(lambda: is_in("working", None, None))
        postgres.kill()
        valkey.kill()
        document = await until(lambda: is_in("down", "everything_away", "unconfirmed"), within=20)
        assert document["parts"]["lookup"]["since"]
        assert document["maintenance_read_at"]
        for lang, path in PAGES.items():
            text = await page(house, path)
            assert part_words("lookup", "limited", "everything_away", lang).sentence in text
            assert part_words("updates", "down", "unconfirmed", lang).sentence in text
        postgres.restart()
        valkey.restart()
        await until(lambda: is_in("working", None, None), within=20)


async def test_lookup_that_starts_with_everything_away_says_so() -> None:
    nowhere = lookup_settings("postgresql://reader:x@127.0.0.1:1/x", "redis://127.0.0.1:1/0")
    async with lookup_at(nowhere) as url, aiohttp.ClientSession() as http:
        house = House(url, "", http, "")
        document = await status_of(house)
        assert document["parts"]["lookup"]["state"] == "limited"
        assert document["parts"]["intake"]["state"] == "unknown"
        assert document["heartbeat_age_seconds"] is None
        assert document["maintenance_read_at"] is None
        for lang, path in PAGES.items():
            text = await page(house, path)
            assert PHRASES[lang]["service.planned.unread"] in text
            assert PHRASES[lang]["service.no_heartbeat"] in text


def test_board_has_its_answers_before_the_pulse_beats_for_the_first_time() -> None:
    class Status:
        def look(self) -> View:
            return Facts().judged()

    board = ServiceBoard(cast(ServiceStatus, Status()))
    assert json.loads(board._json)["state"] == "working"
    assert [*board._pages] == [*PAGES]
    for lang, page in board._pages.items():
        assert f"# {PHRASES[lang]['service.title']}: {PHRASES[lang]['part.all.working']}" in lines(page.decode())


@pytest.mark.parametrize(
    ("facts", "word", "reason"),
    [
        ({}, {"vi": "Hoạt động", "en": "Working"}, None),
        ({"level": 2}, {"vi": "Hạn chế", "en": "Limited"}, "overloaded"),
    ],
)
def test_part_is_named_by_its_state_in_json_and_words(facts: dict[str, Any], word: dict[str, str], reason: Any) -> None:
    view = Facts(**facts).judged()
    part = json.loads(encode(shown(view)))["parts"]["lookup"]
    assert part.get("reason") == reason
    assert ("since" in part) is (reason is not None)
    for lang in PAGES:
        assert part_words("lookup", part["state"], reason, lang).state == PHRASES[lang][f"part.state.{part['state']}"]
    assert part_words("lookup", part["state"], reason, "en").state == word["en"]
