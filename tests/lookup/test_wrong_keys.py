"""A wrong key is charged once as a wrong key, whatever is wrong with it and whichever door it came through."""

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import pytest

from lookup import metrics
from lookup.code import DossierCode, parse
from lookup.lookup_key import KeyRing
from lookup.reading.limits import Rate
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import CITIZEN, OTHER_CITIZEN, Alone, Answer, lookup_alone

OURS = KeyRing.from_text(KEY_SECRETS)
STRANGER = KeyRing(dict.fromkeys(OURS.secrets, b"\x77" * 32), OURS.current)
UNKNOWN_SECRET = KeyRing({31: b"\x77" * 32}, 31)
BURST = 30
"""Wrong keys that are answered at once."""

KNOWN, OTHER, UNKNOWN = [parse(f"G99.01.01-261120-000{number}") for number in (1, 2, 3)]
REISSUED = parse("G99.01.01-261120-0004")
"""Its holder has a second receipt: the key of the first, of serial 0, is superseded."""
NUMBERED, UNNUMBERED = parse("01234/2026/99901"), parse("01235/2026/99901")
NUMBER = parse("00077/2026/99901")
"""The official number of KNOWN."""

Door = Callable[[Alone, DossierCode, str, str], Awaitable[Answer]]


async def api(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    return await alone.ask(f"/api/v1/dossiers/{code.path}", key=key, client=client)


async def page(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    return await alone.ask(f"/tra-cuu/{code.path}", cookie=key, client=client)


async def english_page(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    return await alone.ask(f"/en/status/{code.path}", cookie=key, client=client)


async def typed(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    return await alone.ask(f"/tra-cuu/{code.path}", "POST", data=urlencode({"key": key}), client=client)


async def link(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    return await alone.ask(f"/tra-cuu/{code.path}?key={key}", client=client)


async def pasted(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    text = urlencode({"code": f"See https://tra-cuu.example/tra-cuu/{code.path}?key={key}."})
    return await alone.ask(f"/en/status?{text}", client=client)


async def batch(alone: Alone, code: DossierCode, key: str, client: str) -> Answer:
    body = json.dumps({"dossiers": [{"code": code.text, "key": key}]})
    return await alone.ask("/api/v1/lookups", "POST", data=body, client=client)


DOORS = {
    "api": api,
    "batch": batch,
    "page": page,
    "english page": english_page,
    "typed on the page": typed,
    "link": link,
    "link pasted into the form": pasted,
}
PROGRAMS = (api, batch)
"""Doors that show nothing with a wrong key. A page shows what anyone sees, and charges for that as without a key."""
doors = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)

WRONG = {
    "made by a stranger": (KNOWN, STRANGER.key(KNOWN)),
    "made by a stranger for a code there is not": (UNKNOWN, STRANGER.key(UNKNOWN)),
    "made with a secret there never was": (KNOWN, UNKNOWN_SECRET.key(KNOWN)),
    "of another dossier": (KNOWN, OURS.key(OTHER)),
    "superseded": (REISSUED, OURS.key(REISSUED)),
    "of a serial not given out yet": (KNOWN, OURS.key(KNOWN, 1)),
    "made by a stranger in scheme D": (NUMBERED, STRANGER.key(NUMBERED)),
    "made by a stranger for a code there is not in scheme D": (UNNUMBERED, STRANGER.key(UNNUMBERED)),
    "made by a stranger for an official number": (NUMBER, STRANGER.key(NUMBER)),
    "ours for an official number, which has no key": (NUMBER, OURS.key(NUMBER)),
}
RIGHT = {
    "of the code": (KNOWN, OURS.key(KNOWN)),
    "of the newest receipt": (REISSUED, OURS.key(REISSUED, 1)),
    "in scheme D": (NUMBERED, OURS.key(NUMBERED)),
    "of the code, with the official number": (NUMBER, OURS.key(KNOWN)),
}


def fill(alone: Alone) -> None:
    for code in (KNOWN, OTHER, NUMBERED):
        alone.put(code.text)
    alone.put(REISSUED.text, key_serial=1)
    alone.store.numbers_of[NUMBER.text] = KNOWN.text


def forget(alone: Alone) -> None:
    """Nothing is in memory or Redis, and nothing has been charged: each case begins as the first one did."""
    alone.memory.clear()
    alone.redis.state.values.clear()
    alone.charges.charged.clear()


def is_refused(answer: Answer) -> bool:
    """The one refusal there is for a wrong key, as each door words it."""
    if b'"results":' in answer.body:
        (result,) = json.loads(answer.body)["results"]
        return bool(result.get("error") == "dossier_or_key_not_found")
    return answer.status == 404


@doors
async def test_wrong_key_is_charged_once_and_as_a_wrong_key(door: Door) -> None:
    async with lookup_alone() as alone:
        fill(alone)
        for number, (name, wrong) in enumerate(WRONG.items(), 1):
            forget(alone)
            assert is_refused(await door(alone, *wrong, f"198.51.100.{number}")), name
            (client, rate), *shown = alone.charges.charged
            assert client is not None, name
            assert rate is Rate.WRONG_KEY, name
            known = wrong[0] not in (UNKNOWN, UNNUMBERED)
            assert shown == ([] if door in PROGRAMS else [(client, None if known else Rate.MISSING)]), name


async def test_wrong_key_is_counted_once_by_what_is_wrong_with_it() -> None:
    async with lookup_alone() as alone:
        fill(alone)
        for name, (code, key) in WRONG.items():
            forget(alone)
            reason = "superseded" if name.startswith(("superseded", "of a serial")) else "forged"
            before = wrong_keys()
            await api(alone, code, key, CITIZEN)
            assert wrong_keys() - before == Counter([reason]), name


def wrong_keys() -> Counter[str]:
    """lookup_wrong_keys_total by reason."""
    (family,) = metrics.WRONG_KEYS.collect()
    return Counter({each.labels["reason"]: int(each.value) for each in family.samples if each.name.endswith("_total")})


@doors
async def test_right_key_is_charged_nothing(door: Door) -> None:
    async with lookup_alone() as alone:
        fill(alone)
        for name, right in RIGHT.items():
            forget(alone)
            answer = await door(alone, *right, CITIZEN)
            assert not is_refused(answer), name
            assert answer.status in (200, 303), name
            assert alone.charges.charged == [], name


@doors
async def test_key_guessed_too_often_is_refused_in_the_words_of_the_door_and_nothing_else_is(door: Door) -> None:
    guess = KNOWN, STRANGER.key(KNOWN)
    async with lookup_alone() as alone:
        fill(alone)
        for _ in range(BURST):
            assert is_refused(await door(alone, *guess, CITIZEN))
        answer = await door(alone, *guess, CITIZEN)
        if door is batch:
            (result,) = json.loads(answer.body)["results"]
            assert (result["error"], result["status"]) == ("too_many_requests", 429)
            assert result["retry_after"] >= 10
        else:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) >= 10
        assert is_refused(await door(alone, *guess, OTHER_CITIZEN))  # another client's first guess
        right = await door(alone, KNOWN, OURS.key(KNOWN), CITIZEN)  # the right key from the same address
        assert right.status in (200, 303)
        assert not is_refused(right)
        assert (await alone.ask(f"/api/v1/dossiers/{UNKNOWN.path}")).status == 404  # another rate


async def test_every_wrong_key_of_a_batch_is_charged() -> None:
    wanted = [{"code": KNOWN.text, "key": STRANGER.key(KNOWN)}] * 40
    async with lookup_alone() as alone:
        fill(alone)
        answer = await alone.ask("/api/v1/lookups", "POST", data=json.dumps({"dossiers": wanted}))
        assert [rate for _, rate in alone.charges.charged] == [Rate.WRONG_KEY] * 40
        errors = Counter(result["error"] for result in json.loads(answer.body)["results"])
        assert errors == {"dossier_or_key_not_found": BURST, "too_many_requests": 40 - BURST}


@doors
async def test_partner_is_charged_for_no_wrong_key(door: Door) -> None:
    async with lookup_alone(partners=(f"{CITIZEN}/32",)) as alone:
        fill(alone)
        for _ in range(BURST + 1):
            assert is_refused(await door(alone, KNOWN, STRANGER.key(KNOWN), CITIZEN))
        assert {client for client, _ in alone.charges.charged} == {None}


WITHOUT_A_KEY: dict[str, Callable[[Alone, DossierCode], Awaitable[Answer]]] = {
    "api": lambda alone, code: alone.ask(f"/api/v1/dossiers/{code.path}"),
    "the normal way": lambda alone, code: alone.ask(f"/api/v1/dossiers/{code.path}", held='"one", "another"'),
    "page": lambda alone, code: alone.ask(f"/tra-cuu/{code.path}"),
}


@pytest.mark.parametrize("ask", WITHOUT_A_KEY.values(), ids=WITHOUT_A_KEY)
async def test_nothing_is_shown_without_a_key_where_a_key_is_required(
    ask: Callable[[Alone, DossierCode], Awaitable[Answer]],
) -> None:
    async with lookup_alone(key_for_any_status=True) as alone:
        fill(alone)
        assert (await api(alone, KNOWN, OURS.key(KNOWN), CITIZEN)).status == 200  # it is in memory now
        alone.store.asked.clear()
        for code in (KNOWN, UNKNOWN, NUMBERED):
            answer = await ask(alone, code)
            assert answer.status == 403
            assert b"processing" not in answer.body
        assert alone.store.asked == []


@pytest.mark.parametrize("lang", ["/tra-cuu/", "/en/status/"])
async def test_page_that_refuses_asks_for_the_key_and_opens_with_it(lang: str) -> None:
    async with lookup_alone(key_for_any_status=True) as alone:
        fill(alone)
        page = lang + KNOWN.path
        assert f'action="{page}" method="post"' in (await alone.ask(page)).body.decode()
        mistyped = await alone.ask(page, "POST", data=urlencode({"key": "2KQ0F"}))
        assert (mistyped.status, mistyped.body.count(b"key-fault")) == (400, 2)
        assert (await alone.ask(page, "POST", data=urlencode({"key": OURS.key(KNOWN)}))).status == 303
        assert (await alone.ask(page, cookie=OURS.key(KNOWN))).status == 200


@pytest.mark.parametrize("door", [page, typed, link, pasted])
async def test_wrong_key_leads_to_what_anyone_sees_with_the_field_for_another(door: Door) -> None:
    async with lookup_alone() as alone:
        fill(alone)
        for key, status in ((STRANGER.key(KNOWN), 404), (OURS.key(OTHER), 404), ("10QSW-F3K68", 400), ("x", 400)):
            answer = await door(alone, KNOWN, key, CITIZEN)
            text = answer.body.decode()
            assert answer.status == status, key
            assert text.index('id="errors"') < text.index("<h1>")
            assert '<a href="#key">' in text
            assert 'action="/' in text
            assert f'/{KNOWN.path}" method="post"' in text
            assert ("Đang xử lý" if door is not pasted else "Being processed") in text
            assert "<title>Lỗi: " in text or "<title>Error: " in text
            assert (f'value="{key}"' in text) is (door is not page)  # what was typed or pasted; not what a cookie held


@pytest.mark.parametrize("door", [typed, link, pasted])
async def test_wrong_key_looks_the_same_for_any_code_where_a_code_alone_shows_nothing(door: Door) -> None:
    async with lookup_alone(key_for_any_status=True) as alone:
        fill(alone)
        for key in (STRANGER.key(KNOWN), "10QSW-F3K68"):
            known, unknown = [
                (await door(alone, code, key, CITIZEN))
                .body.replace(code.path.encode(), b"")
                .replace(code.text.encode(), b"")
                for code in (KNOWN, UNKNOWN)
            ]
            assert known == unknown
            assert b"errors" in known
            assert f'value="{key}"'.encode() in known


@pytest.mark.parametrize(("key", "status"), [(STRANGER.key(KNOWN), 404), ("10QSW-F3K68", 400)])
async def test_wrong_key_is_told_though_nothing_can_be_read(key: str, status: int) -> None:
    async with lookup_alone() as alone:
        alone.store.away = True
        answer = await typed(alone, KNOWN, key, CITIZEN)
        text = answer.body.decode()
        assert answer.status == status
        assert 'href="#key"' in text
        assert f'href="/tra-cuu/{KNOWN.path}"' in text


@pytest.mark.parametrize("key", [STRANGER.key(KNOWN), OURS.key(OTHER), "10QSW-F3K68", ""])
async def test_broken_link_throws_no_valid_cookie_away(key: str) -> None:
    async with lookup_alone() as alone:
        fill(alone)
        answer = await alone.ask(f"/tra-cuu/{KNOWN.path}?key={key}", cookie=OURS.key(KNOWN))
        assert answer.status in (400, 404)
        assert "Set-Cookie" not in answer.headers


async def test_link_is_taken_while_nothing_can_be_read_unless_a_cookie_is_there() -> None:
    async with lookup_alone() as alone:
        alone.store.away = True
        address = f"/tra-cuu/{KNOWN.path}"
        taken = await alone.ask(f"{address}?key={OURS.key(KNOWN)}")
        assert (taken.status, taken.headers["Location"]) == (303, f"{address}?details=shown")
        kept = await alone.ask(f"{address}?key={OURS.key(KNOWN)}", cookie=OURS.key(KNOWN))
        assert kept.status == 503
        assert f'href="{address}"' in kept.body.decode()
        assert "Set-Cookie" not in kept.headers


async def test_wrong_key_reads_the_same_whether_there_is_such_a_dossier_or_not() -> None:
    async with lookup_alone() as alone:
        fill(alone)
        alone.put(NUMBERED.text)
        reads = []
        for code in (NUMBERED, UNNUMBERED):
            alone.store.asked.clear()
            assert is_refused(await api(alone, code, STRANGER.key(code), CITIZEN))
            reads.append([name.replace(code.text, "the code") for name in alone.store.asked])
        assert reads[0] == reads[1]


async def test_official_number_that_looks_like_another_dossiers_code_opens_with_the_key_of_the_one_behind_it() -> None:
    async with lookup_alone() as alone:
        fill(alone)
        alone.put(NUMBER.text)
        answer = await api(alone, NUMBER, OURS.key(KNOWN), CITIZEN)
        assert (answer.status, json.loads(answer.body)["code"]) == (200, KNOWN.text)
