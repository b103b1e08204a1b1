"""The whole story once: a dossier goes in, its status comes out, changes are seen, the page shows it."""

import redis.asyncio

from lookup.cache import dossier_key
from tests.conftest import Database
from tests.house import House, open_house, until
from tests.lookup.views import ANYONE, HOLDER, ORDINARY, just_received, only


async def test_dossier_goes_in_and_its_status_comes_out(house: House) -> None:
    receipt = await house.receive()
    code = receipt["code"]
    assert receipt["version"] == 1
    assert receipt["due_at"] is not None

    known = just_received(receipt)
    assert await house.lookup(f"/api/v1/dossiers/{code}") == (200, only(ANYONE, known))

    moved = await house.move(code, "processing", department="Phòng Chế độ (hư cấu)")
    assert moved["version"] == 2

    async def sees_processing() -> bool:
        _, view = await house.lookup(f"/api/v1/dossiers/{code}")
        return bool(view["status"] == "processing" and view["version"] == 2)

    await until(sees_processing)

    status, holder = await house.lookup(f"/api/v1/dossiers/{code}", **{"Hoso24-Key": receipt["lookup_key"]})
    step = {"status": "processing", "agency": known["agency"], "department": "Phòng Chế độ (hư cấu)"}
    now = {"status": "processing", "status_number": 4, "completion": 0.5, "version": 2}
    timeline = [*known["timeline"], {"at": holder["timeline"][-1]["at"], **step, **ORDINARY}]
    assert (status, holder) == (200, only(HOLDER, {**known, **now, "timeline": timeline}))


async def test_holder_reads_what_held_it_up_and_why_it_was_refused_and_anyone_does_not(house: House) -> None:
    receipt = await house.receive()
    path, key = f"/api/v1/dossiers/{receipt['code']}", {"Hoso24-Key": receipt["lookup_key"]}
    await house.move(receipt["code"], "supplement_required", note="Bổ sung (hư cấu)", items=["Bản sao (hư cấu)"])
    await house.move(receipt["code"], "processing")
    await house.move(receipt["code"], "completed", outcome="refused", note="Chưa đủ điều kiện (hư cấu)")

    async def is_completed() -> bool:
        _, view = await house.lookup(path)
        return bool(view["version"] == 4)

    await until(is_completed)
    _, holder = await house.lookup(path, **key)
    asked, resumed = (step["at"] for step in holder["timeline"][1:3])
    assert (holder["outcome"], holder["reason"]) == ("refused", "Chưa đủ điều kiện (hư cấu)")
    assert [step["status"] for step in holder["timeline"]][1:] == ["supplement_required", "processing", "completed"]
    assert holder["supplements"] == 1
    (pause,) = holder["pauses"]
    told = {"status": "supplement_required", "policy": "restart", "due_before": receipt["due_at"]}
    assert pause == {**told, "since": asked, "until": resumed}
    cookie = {"Cookie": f"hoso24-key={receipt['lookup_key']}"}
    async with house.http.get(f"{house.lookup_url}/tra-cuu/{receipt['code']}", headers=cookie) as response:
        page = await response.text()
    assert "Kết quả: từ chối giải quyết" in page
    assert "Chưa đủ điều kiện (hư cấu)" in page
    _, anyone = await house.lookup(path)
    assert anyone.keys() == {*ANYONE}
    async with house.http.get(f"{house.lookup_url}/tra-cuu/{receipt['code']}") as response:
        assert "từ chối" not in await response.text()


async def test_official_number_opens_the_same_dossier(house: House) -> None:
    receipt = await house.receive()
    path = f"/api/v1/dossiers/{receipt['code']}/official-number"
    status, answer = await house.hand_in("PUT", path, {"number": "1234/2026/99901"})
    assert (status, answer["official_number"]) == (200, "01234/2026/99901")

    async def opens() -> bool:
        status, view = await house.lookup("/api/v1/dossiers/01234-2026-99901")
        return status == 200 and view["code"] == receipt["code"] and view["version"] == 2

    await until(opens)
    status, holder = await house.lookup("/api/v1/dossiers/01234-2026-99901", **{"Hoso24-Key": receipt["lookup_key"]})
    assert status == 200
    assert holder["official_number"] == "01234/2026/99901"


async def test_page_shows_the_dossier_in_both_languages(house: House) -> None:
    receipt = await house.receive()
    async with house.http.get(f"{house.lookup_url}/tra-cuu?ma={receipt['code'].lower()}") as response:
        vietnamese = await response.text()
    assert response.status == 200
    assert response.url.path == f"/tra-cuu/{receipt['code']}"
    assert "Được tiếp nhận" in vietnamese
    async with house.http.get(f"{house.lookup_url}/en/status/{receipt['code']}") as response:
        english = await response.text()
    assert receipt["code"] in english
    assert 'lang="en"' in english
    assert "<script" not in vietnamese + english


async def test_cached_record_of_another_form_is_dropped_and_loaded_anew(database: Database, redis_url: str) -> None:
    async with open_house(database, redis_url, lookup={"memory_bytes": 0}) as house:
        receipt, other = await house.receive(), await house.receive()
        for each in (receipt, other):
            assert (await house.lookup(f"/api/v1/dossiers/{each['code']}"))[0] == 200
        async with redis.asyncio.Redis.from_url(redis_url, protocol=2) as client:
            key = dossier_key(1, receipt["code"])
            value = await client.get(key)
            assert isinstance(value, bytes)
            await client.set(key, value.partition(b"\n")[0] + b'\n{"version": "one"}')
        wanted = {"dossiers": [{"code": other["code"]}, {"code": receipt["code"]}]}
        async with house.http.post(f"{house.lookup_url}/api/v1/lookups", json=wanted) as response:
            results = (await response.json())["results"]
        assert [result["dossier"]["code"] for result in results] == [other["code"], receipt["code"]]
