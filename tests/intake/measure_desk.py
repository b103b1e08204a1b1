"""What a desk costs, and how long an officer waits: `python -m tests.intake.measure_desk [DOSSIERS]` prints it.

Makes a PostgreSQL of its own with that many dossiers (2,000,000) of 700 offices, one of which has 70,000, and a desk
with an officer of that one. Then a browser with a line of 200 ms does forty receptions.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from intake.desk.inbox import INBOX_ROWS
from intake.desk.search import BY_END, BY_NAME, DAYS, ROWS
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from tests.browser import Browser as Chromium
from tests.browser import chromium, tab
from tests.conftest import FAST, Database, prepare
from tests.desk import add_officer, desk_running, desk_settings, signed_in
from tests.house import House, intake_at, intake_settings, new_token, paper_files
from tests.intake.test_desk_browser import Officer

OFFICES, LARGE = 700, 70_000
OFFICE = "G99.100"
LATENCY = 200
RECEPTIONS = 40

AGENCIES = """
INSERT INTO agency (code, parent, name_vi, name_en, sample, valid_from)
SELECT 'G99.' || 99 + n, 'G99', 'Cơ quan ' || n || ' (hư cấu)', 'Office ' || n || ' (fictitious)', true, '2020-01-01'
  FROM generate_series(1, $1) AS n
"""

# $1: dossiers. $2: of the large office. $3: offices. A year of days; one in five is worked on, the others are returned.
FILL = """
WITH one AS (
    SELECT n,
           'G99.' || CASE WHEN n <= $2 THEN 100 ELSE 101 + n % ($3 - 1) END AS agency,
           now() - (n % 360) * interval '1 day' - (n % 1440) * interval '1 minute' AS at,
           n % 5 = 0 AS live,
           (ARRAY['Nguyễn', 'Trần', 'Lê', 'Phạm', 'Hoàng', 'Võ', 'Đặng', 'Bùi', 'Đỗ', 'Hồ'])[1 + n % 10] || ' ' ||
           (ARRAY['Văn', 'Thị', 'Minh', 'Ngọc', 'Đức', 'Thu', 'Quốc'])[1 + n / 10 % 7] || ' ' ||
           (ARRAY['An', 'Bình', 'Châu', 'Dũng', 'Giang', 'Hạnh', 'Khoa', 'Lan', 'Minh', 'Nga', 'Oanh', 'Phúc', 'Quân'])
               [1 + n / 70 % 13] || ' ' || chr(65 + n / 910 % 26) || chr(65 + n / 23660 % 26) AS name
      FROM generate_series(1, $1) AS n
),
     written AS (
    INSERT INTO dossier (code, version, status, agency, origin, service, channel, submitted_at, received_at, due_at,
                         finished_at, returned_at, timeline, applicant_kind, applicant_name, applicant_id,
                         applicant_phone)
    SELECT agency || to_char(at, '-YYMMDD-') || lpad(n::text, 8, '0'), 2, CASE WHEN live THEN 4 ELSE 10 END, agency,
           agency, 'S.004', 'direct', at, at, at + interval '10 days', CASE WHEN NOT live THEN at END,
           CASE WHEN NOT live THEN at END, '[]', 1, name, lpad((n::bigint * 7919)::text, 12, '0'),
           '09' || lpad(n::text, 8, '0')
      FROM one
    RETURNING code, agency, submitted_at, status, applicant_name, applicant_id, applicant_phone
),
     found AS (
    INSERT INTO applicant_search (code, agency, submitted_at, folded, id_tail, phone_tail)
    SELECT code, agency, submitted_at,
           lower(translate(applicant_name, 'ễầêạàõĐặùỗồăịứốọìâũạúôâ', 'eaeaaoDauooaiuooiauauoa')),
           reverse(applicant_id), reverse(applicant_phone)
      FROM written
)
INSERT INTO task (code, number, agency, kind, work, state, due_at, opened_at, version)
SELECT code, 1, agency, 'work', '', 'open', submitted_at + interval '10 days', submitted_at, 2
  FROM written
 WHERE status = 4
"""


async def fill(database: Database, dossiers: int) -> None:
    """Offices with their dossiers, without the checks that triggers and foreign keys make."""
    connection = await asyncpg.connect(f"{database.admin_url.rpartition('/')[0]}/{database.name}")
    await connection.execute("SET search_path = hoso24; SET session_replication_role = replica")
    await connection.execute(AGENCIES, OFFICES)
    await connection.execute(FILL, dossiers, min(LARGE, dossiers // 2), OFFICES)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def told(what: str, seconds: list[float]) -> None:
    """Print median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(f"{what}: {statistics.median(ordered) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms of {len(ordered)}", flush=True)


async def timed(times: int, work: Callable[[int], Awaitable[Any]]) -> list[float]:
    """The seconds of each of so many calls, after two that do not count."""
    found = []
    for n in range(times + 2):
        began = time.perf_counter()
        await work(n)
        found.append(time.perf_counter() - began)
    return found[2:]


async def queries(database: Database) -> None:
    """The statements alone, warm."""
    connection = await asyncpg.connect(database.url("hoso24_desk"))
    office, work = [OFFICE], ["decide", "work", "opinion", "transfer"]
    statements: dict[str, tuple[Any, ...]] = {
        "inbox": (INBOX_ROWS, office, work, "-infinity", "", 0, 51),
        "name": (BY_NAME, office, ["% nguyen%", "% ab%"], ROWS + 1, DAYS),
        "a name that is not there": (BY_NAME, office, ["% xyzzy%"], ROWS + 1, DAYS),
        "end of a number": (BY_END, office, ["247%"], ROWS + 1, DAYS),
    }
    for name, (statement, *given) in statements.items():
        told(f"query {name}", await timed(300, lambda _: connection.fetch(statement, *given)))  # noqa: B023
    await connection.close()


async def pages(url: str, database: Database) -> None:
    """Pages as a client in the same process gets them."""
    async with signed_in(url, database) as browser:
        told("page inbox", await timed(200, lambda _: browser.get("/quay")))
        told("page search", await timed(200, lambda _: browser.get("/quay/tim?q=nguyen+ab")))
        code = (await browser.get("/quay")).text.partition("/quay/ho-so/")[2].partition('"')[0]
        told("page dossier", await timed(200, lambda _: browser.get(f"/quay/ho-so/{code}")))


async def receptions(url: str, database: Database, house: House) -> None:
    """A reception at the desk and by the API, in turns; both with a paper."""
    form = "/quay/nhan/S.004"
    fields = {"do": "receive", "case": "default", "name": "Lê Văn An (hư cấu)", "id": "079000000118", "document": "0"}
    person = {"name": fields["name"], "id": fields["id"]}
    async with signed_in(url, database) as browser:

        async def at_the_desk(_: int) -> None:
            async with browser.http.post(
                url + form,
                data=fields | {"once": str(uuid.uuid4())},
                headers={"Sec-Fetch-Site": "same-origin"},
                allow_redirects=False,
            ) as response:
                assert response.status == 303, await response.text()

        async def by_the_api(_: int) -> None:
            await house.receive(agency=OFFICE, applicant=person, channel="direct")

        rounds = [(await timed(60, at_the_desk), await timed(60, by_the_api)) for _ in range(5)]
    desk, api = ([each for one in side for each in one] for side in zip(*rounds, strict=True))
    told("reception at the desk", desk)
    told("reception by the API", api)
    ratios = [statistics.median(one) / statistics.median(other) for one, other in rounds]
    print(f"desk ÷ API: {statistics.median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})", flush=True)


async def at_a_distance(browser: Chromium, url: str, database: Database) -> None:
    """An officer's waits on a line of LATENCY."""
    officer = Officer(browser, url)
    await officer.sign_in(database, "binh")
    await browser.tell("Network.enable")
    line = {"offline": False, "latency": LATENCY, "downloadThroughput": 1_250_000, "uploadThroughput": 1_250_000}
    await browser.tell("Network.emulateNetworkConditions", **line)
    sent = "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
    await browser.tell("Network.clearBrowserCache")
    await browser.open(f"{url}/quay")
    size = await browser.run(f"{sent}.reduce((sum, each) => sum + each.transferSize, 0)")
    print(f"first view of the inbox: {size:,} bytes with script and styles", flush=True)
    told("inbox at 200 ms", await timed(10, lambda _: browser.open(f"{url}/quay")))
    waits: dict[str, list[float]] = {"F2": [], "the form": [], "Enter to the code": []}
    began = time.perf_counter()
    for n in range(RECEPTIONS):
        at = time.perf_counter()
        await officer.go("F2")
        waits["F2"].append(time.perf_counter() - at)
        await officer.type("S.004")
        at = time.perf_counter()
        await officer.go_on()
        waits["the form"].append(time.perf_counter() - at)
        await officer.fill(name=f"Nguyễn Văn Mẫu {n} (hư cấu)", id="079000000118")
        at = time.perf_counter()
        await officer.go_on()
        waits["Enter to the code"].append(time.perf_counter() - at)
    for name, found in waits.items():
        told(f"{name} at 200 ms", found)
    longest = max(max(found) for found in waits.values())
    print(f"{RECEPTIONS} receptions in {time.perf_counter() - began:.0f} s, no wait above {longest:.2f} s", flush=True)


async def measure(dossiers: int, server: PostgresServer, reaper: Reaper) -> None:
    """Fill, then everything."""
    database = await prepare(server.admin_url, "desk")
    print(f"Filling {dossiers:,} dossiers …", flush=True)
    began = time.perf_counter()
    await fill(database, dossiers)
    print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
    await add_officer(database, agency=OFFICE)
    await queries(database)
    files = paper_files()
    async with desk_running(desk_settings(database, **files)) as desk:
        url = f"http://127.0.0.1:{desk.port}"
        await pages(url, database)
        async with (
            intake_at(intake_settings(database.writer_url, **files)) as intake_url,
            aiohttp.ClientSession() as http,
        ):
            await receptions(url, database, House("", intake_url, http, await new_token(database)))
        with chromium(reaper) as devtools:
            async with tab(devtools) as browser:
                await browser.be(width=1366, scheme="light")
                await at_a_distance(browser, url, database)


def main() -> None:
    """Measure with the number of dossiers that is given."""
    dossiers = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory(prefix="hoso24-desk-") as name, Reaper() as reaper:
        place = Path(name)
        place.chmod(0o755)
        settings = FAST | {"shared_buffers": "1GB"}
        with PostgresServer.start(place / "postgres", settings=settings, reaper=reaper) as server:
            asyncio.run(measure(dossiers, server, reaper))


if __name__ == "__main__":
    main()
