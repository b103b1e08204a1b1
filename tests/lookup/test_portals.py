"""What a portal's program needs of the JSON API: reading from its own page, and knowing what it may still ask."""

import json
import re
from typing import Any

import pytest

from lookup.code import parse
from lookup.lookup_key import KeyRing
from lookup.reading.limits import HOME, NETWORK, PAIRS, Limits, Rate
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import Alone, Answer, lookup_alone

KNOWN = parse("G99.12.01-260101-0001")
UNKNOWN = parse("G99.12.01-260101-9999")
OURS = KeyRing.from_text(KEY_SECRETS)
ORIGIN = {"Origin": "https://portal.example"}
CITIZEN = bytes([203, 0, 113, 7])
HOUSEHOLD = bytes.fromhex("20010db800010000")


def cross_origin(answer: Answer) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("access-control-")}


def items(header: str) -> dict[str, dict[str, int]]:
    """A RateLimit or RateLimit-Policy header: name → parameters. Fails for what is no list of named items."""
    found: dict[str, dict[str, int]] = {}
    for item in header.split(", "):
        match = re.fullmatch(r'"([a-z_]+)"((?:;[a-z]=\d+)+)', item)
        assert match, header
        pairs = [pair.split("=") for pair in match[2][1:].split(";")]
        found[match[1]] = {name: int(value) for name, value in pairs}
    return found


def limits_told(answer: Answer) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    policies, standing = items(answer.headers["RateLimit-Policy"]), items(answer.headers["RateLimit"])
    assert policies.keys() == standing.keys()
    return policies, standing


# -- other sites -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        (KNOWN.path, 200),
        (UNKNOWN.path, 404),
        (KNOWN.path.lower(), 301),
        ("nonsense", 400),
        (f"{KNOWN.path}?at_least=x", 400),
        (f"{KNOWN.path}?at_least=1", 200),
    ],
)
async def test_any_site_may_read_what_anyone_may_and_why_it_may_not(path: str, status: int, method: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for _ in range(2):  # the second time from memory
            answer = await alone.ask(f"/api/v1/dossiers/{path}", method, more=ORIGIN)
            assert answer.status == status
            assert cross_origin(answer) == {
                "access-control-allow-origin": "*",
                "access-control-expose-headers": "ETag, Age, Retry-After, RateLimit, RateLimit-Policy",
            }


@pytest.mark.parametrize("path", ["/api/v1/statuses", "/api/v1/service-status", "/api/v1/nothing"])
async def test_other_reads_of_the_api_are_shared_too(path: str) -> None:
    async with lookup_alone() as alone:
        assert cross_origin(await alone.ask(path, more=ORIGIN))["access-control-allow-origin"] == "*"


async def test_answer_that_is_held_is_shared_too() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        tag = (await alone.ask(f"/api/v1/dossiers/{KNOWN.path}")).tag
        answer = await alone.ask(f"/api/v1/dossiers/{KNOWN.path}", held=tag, more=ORIGIN)
        assert (answer.status, answer.early) == (304, True)
        assert cross_origin(answer)["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("key", [OURS.key(KNOWN), OURS.key(UNKNOWN), "nonsense", ""])
async def test_no_site_may_read_what_was_asked_for_with_a_key(key: str) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        answer = await alone.ask(f"/api/v1/dossiers/{KNOWN.path}", key=key, more=ORIGIN)
        assert answer.status == (200 if key == OURS.key(KNOWN) else 404 if key == OURS.key(UNKNOWN) else 400)
        assert cross_origin(answer) == {}


async def test_no_site_may_read_what_was_asked_for_with_a_token_a_page_or_a_batch() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        path = f"/api/v1/dossiers/{UNKNOWN.path.lower()}"
        assert cross_origin(await alone.ask(path, more=ORIGIN | {"Authorization": "Bearer x"})) == {}
        for page in (f"/tra-cuu/{KNOWN.path}", "/tra-cuu", "/tinh-trang-he-thong", "/nowhere"):
            assert cross_origin(await alone.ask(page, more=ORIGIN)) == {}
        body = json.dumps({"dossiers": [{"code": KNOWN.text}]})
        assert cross_origin(await alone.ask("/api/v1/lookups", "POST", data=body, more=ORIGIN)) == {}


PREFLIGHT = ORIGIN | {"Access-Control-Request-Method": "GET"}


async def test_preflight_allows_reading_and_no_header_that_carries_a_secret() -> None:
    async with lookup_alone() as alone:
        for asked in ({}, {"Access-Control-Request-Headers": "hoso24-key, authorization"}):
            for path in (f"/api/v1/dossiers/{KNOWN.path}", "/api/v1/dossiers/nonsense", "/api/v1/statuses"):
                answer = await alone.ask(path, "OPTIONS", more=PREFLIGHT | asked)
                assert (answer.status, answer.body) == (204, b"")
                allowed = cross_origin(answer)
                assert allowed.pop("access-control-max-age") == "86400"
                assert allowed == {
                    "access-control-allow-origin": "*",
                    "access-control-allow-methods": "GET, HEAD",
                    "access-control-allow-headers": "If-None-Match, X-Request-Id",
                }


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/lookups", 405), ("/api/v1/nothing", 404), (f"/tra-cuu/{KNOWN.path}", 405)]
)
async def test_preflight_of_what_cannot_be_read_is_refused(path: str, status: int) -> None:
    async with lookup_alone() as alone:
        answer = await alone.ask(path, "OPTIONS", more=PREFLIGHT | {"Access-Control-Request-Method": "POST"})
        assert answer.status == status
        assert cross_origin(answer) == {}


# -- rates -------------------------------------------------------------------------------------------------------


async def missed(alone: Alone, n: int) -> Answer:
    return await alone.ask(f"/api/v1/dossiers/G99.12.01-260101-{n:04d}")


async def test_404_tells_what_is_left_and_the_429_after_it_that_nothing_is() -> None:
    async with lookup_alone() as alone:
        for n in range(1, Rate.MISSING.allowance.burst + 1):
            answer = await missed(alone, n)
            policies, standing = limits_told(answer)
            assert (answer.status, policies) == (404, {"missing": {"q": 100, "w": 50}})
            assert standing == {"missing": {"r": 100 - n, "t": (n + 1) // 2}}
        answer = await missed(alone, 5000)
        policies, standing = limits_told(answer)
        assert (answer.status, policies) == (429, {"missing": {"q": 100, "w": 50}})
        assert standing == {"missing": {"r": 0, "t": int(answer.headers["Retry-After"])}}


async def test_wrong_key_tells_its_own_rate() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        answer = await alone.ask(f"/api/v1/dossiers/{KNOWN.path}", key=OURS.key(UNKNOWN))
        assert limits_told(answer) == ({"wrong_key": {"q": 30, "w": 60}}, {"wrong_key": {"r": 29, "t": 2}})


async def test_answer_that_was_found_tells_no_rate() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        for key in (None, OURS.key(KNOWN)):
            answer = await alone.ask(f"/api/v1/dossiers/{KNOWN.path}", key=key)
            assert not {"RateLimit", "RateLimit-Policy"} & set(answer.headers)


async def test_batch_tells_the_rates_it_was_charged_to() -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text)
        wanted = [{"code": KNOWN.text}, *({"code": f"G99.12.01-260101-{n:04d}"} for n in range(8000, 8010))]
        answer = await alone.ask("/api/v1/lookups", "POST", data=json.dumps({"dossiers": wanted}))
        policies, standing = limits_told(answer)
        assert policies == {"missing": {"q": 100, "w": 50}, "network": {"q": 3000, "w": 6000}}
        assert standing["missing"] == {"r": 90, "t": 5}
        assert standing["network"]["r"] in {3000, 2996}  # by sample: one in four is charged, four times


async def test_partner_is_told_no_rate() -> None:
    async with lookup_alone(partners=("203.0.113.0/24",)) as alone:
        answer = await missed(alone, 1)
        assert answer.status == 404
        assert "RateLimit" not in answer.headers


def told(limits: Limits, client: bytes, *rates: Rate, dossiers: bool = False) -> dict[str, dict[str, int]]:
    return items(limits.headers(client, *rates, dossiers=dossiers)["RateLimit"])


@pytest.mark.parametrize("rate", Rate)
def test_client_that_was_told_of_so_many_is_given_them_and_not_one_more(rate: Rate) -> None:
    now = 100.0

    def clock() -> float:
        return now

    limits = Limits(clock)
    for spent in (1, rate.allowance.burst // 2, rate.allowance.burst - 1):
        while told(limits, CITIZEN, rate)[rate.allowance.word]["r"] > rate.allowance.burst - spent:
            assert limits.probed(CITIZEN, rate) is None
        now += 0.3 * rate.allowance.interval
        left = told(limits, CITIZEN, rate)[rate.allowance.word]["r"]
        trial = Limits(clock)
        trial._first[:], trial._second[:] = limits._first, limits._second
        assert [trial.probed(CITIZEN, rate) for _ in range(left)] == [None] * left
        assert trial.probed(CITIZEN, rate) is not None


@pytest.mark.parametrize("rate", Rate)
def test_client_that_keeps_to_the_policy_is_never_refused(rate: Rate) -> None:
    now = 100.0
    limits = Limits(lambda: now)
    policy = items(limits.headers(CITIZEN, rate)["RateLimit-Policy"])[rate.allowance.word]
    for _ in range(5):  # all of it at once, in every window
        assert [limits.probed(CITIZEN, rate) for _ in range(policy["q"])] == [None] * policy["q"]
        now += policy["w"]


@pytest.mark.parametrize(("client", "allowance"), [(CITIZEN, NETWORK[1]), (HOUSEHOLD, HOME[1])])
def test_dossiers_shown_are_told_of_the_client_s_own_network(client: bytes, allowance: Any) -> None:
    limits = Limits(lambda: 100.0)
    word = allowance.word
    assert told(limits, client, dossiers=True) == {word: {"r": allowance.burst, "t": 1}}
    assert limits.disclose(1 << PAIRS, client, "G99.12.01-260101") is None  # a pair that the sample charges
    assert told(limits, client, dossiers=True)[word]["r"] == allowance.burst - 4
