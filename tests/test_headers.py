"""Every kind of answer says how it may be shown, kept and referred to, and none says what it was made with."""

import platform
import re
from typing import NamedTuple

import aiohttp
import pytest
from yarl import URL

from lookup.web import layout
from ops.http import early_answers, middleware
from ops.http.cross_origin import ANY_SITE, PREFLIGHT
from tests.conftest import Database
from tests.house import House, lookup_running, lookup_settings

UNKNOWN = "G99.12.01-260101-9999"
BARE = middleware.CONTENT_SECURITY_POLICY
PAGE, FOUND = layout.CONTENT_SECURITY_POLICY, layout.POLICY_WHERE_FOUND
FOR_A_DAY, FOR_EVER = "public, max-age=86400", "public, max-age=31536000, immutable"


class Kind(NamedTuple):
    """One kind of answer: how to get it, and what it has to say of itself."""

    status: int
    path: str
    kept: str
    policy: str = BARE
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def shared(self) -> bool:
        """Whether a program on another site's page may read it: anyone's reads below /api/v1/, and no others.

        An Expect, which no browser lets a program send, is refused before it is known what was to be read.
        """
        return (
            self.status != 417
            and self.path.startswith("/api/v1/")
            and self.method in {"GET", "HEAD"}
            and not {*self.headers} & {KEY, WRONG_KEY}
        )


KEY = ("Hoso24-Key", "{key}")
WRONG_KEY = ("Hoso24-Key", "00000-00000-00000")
HELD = ("If-None-Match", '"1.1-json-3"')
COOKIE = ("Cookie", "hoso24-key={key}")
LIST = ("Cookie", "hoso24-list={code}")
OF_THE_LOOKUP = {
    "json": Kind(200, "/api/v1/dossiers/{code}", "public, no-cache"),
    "json of the holder": Kind(200, "/api/v1/dossiers/{code}", "private, no-store", headers=(KEY,)),
    "json of a version": Kind(200, "/api/v1/dossiers/{code}?at_least=1", "no-store"),
    "head": Kind(200, "/api/v1/dossiers/{code}", "public, no-cache", method="HEAD"),
    "not modified": Kind(304, "/api/v1/dossiers/{code}", "public, no-cache", headers=(HELD,)),
    "json redirect": Kind(301, "/api/v1/dossiers/{lower}", FOR_A_DAY),
    "statuses": Kind(200, "/api/v1/statuses", "public, max-age=3600"),
    "preflight": Kind(204, "/api/v1/dossiers/{code}", "no-store", method="OPTIONS"),
    "preflight of a batch": Kind(405, "/api/v1/lookups", "no-store", method="OPTIONS"),
    "batch": Kind(200, "/api/v1/lookups", "no-store", method="POST", body=b'{"dossiers": [{"code": "x"}]}'),
    "wrong key": Kind(404, "/api/v1/dossiers/{code}", "no-store", headers=(WRONG_KEY,)),
    "malformed": Kind(400, "/api/v1/dossiers/nonsense", "no-store"),
    "missing": Kind(404, f"/api/v1/dossiers/{UNKNOWN}", "no-store"),
    "nowhere": Kind(404, "/api/v1/nowhere", "no-store"),
    "method": Kind(405, "/api/v1/lookups", "no-store"),
    "packed": Kind(415, "/api/v1/lookups", "no-store", method="POST", headers=(("Content-Encoding", "gzip"),)),
    "expectation": Kind(417, "/api/v1/statuses", "no-store", headers=(("Expect", "the unexpected"),)),
    "version too new": Kind(412, "/api/v1/dossiers/{code}?at_least=9", "no-store"),
    "form": Kind(200, "/tra-cuu", "public, max-age=5", FOUND),
    "form not modified": Kind(304, "/en", "public, max-age=5", FOUND, headers=(("If-None-Match", "*"),)),
    "page": Kind(200, "/tra-cuu/{code}", "private, no-cache", PAGE),
    "page in English": Kind(200, "/en/status/{code}", "private, no-cache", PAGE),
    "page of the holder": Kind(200, "/tra-cuu/{code}", "private, no-store", PAGE, headers=(COOKIE,)),
    "text": Kind(200, "/tra-cuu/{code}.txt", "no-store"),
    "text in English": Kind(200, "/en/status/{code}.txt", "no-store"),
    "problem as text": Kind(404, f"/tra-cuu/{UNKNOWN}.txt", "no-store"),
    "calendar for anyone": Kind(303, "/tra-cuu/{code}/lich-hen.ics", "no-store"),
    "calendar": Kind(200, "/tra-cuu/{code}/lich-hen.ics", "private, no-store", headers=(COOKIE,)),
    "own list": Kind(200, "/ho-so-cua-toi", "private, no-store", PAGE, headers=(LIST,)),
    "own list in English": Kind(200, "/en/my-applications", "private, no-store", PAGE),
    "remembered": Kind(303, "/ho-so-cua-toi", "no-store", method="POST", body=b"code={code}&remember=1"),
    "rating": Kind(303, "/tra-cuu/danh-gia", "no-store", method="POST", body=b"status=4&score=satisfied"),
    "rating that is none": Kind(400, "/tra-cuu/danh-gia", "private, no-store", PAGE, method="POST", body=b"x=1"),
    "thanks": Kind(200, "/en/status/rating", "private, no-store", PAGE),
    "problem page": Kind(404, f"/tra-cuu/{UNKNOWN}", "private, no-store", PAGE),
    "service status": Kind(200, "/tinh-trang-he-thong", "public, max-age=5", FOUND),
    "service status in English": Kind(200, "/en/service-status", "public, max-age=5", FOUND),
    "service status as json": Kind(200, "/api/v1/service-status", "public, max-age=5"),
    "services": Kind(200, "/dich-vu", "public, max-age=300", FOUND),
    "service in English": Kind(200, "/en/services/S.004", "public, max-age=300", FOUND),
    "no such service": Kind(404, "/dich-vu/9.999", "private, no-store", PAGE),
    "services as json": Kind(200, "/api/v1/services", "public, max-age=300"),
    "service as json": Kind(200, "/api/v1/services/S.004", "public, max-age=300"),
    "no such service as json": Kind(404, "/api/v1/services/9.999", "no-store"),
    "figures": Kind(200, "/thong-ke", "public, max-age=300", FOUND),
    "figures in English": Kind(200, "/en/statistics?agency=G99.01", "public, max-age=300", FOUND),
    "figures of another century": Kind(400, "/thong-ke?month=1999-01", "private, no-store", PAGE),
    "verify": Kind(200, "/kiem-tra", "public, max-age=300", FOUND),
    "verify nonsense in English": Kind(200, "/en/verify?s=x", "private, no-store", PAGE),
    "verify in capitals": Kind(200, "/KIEM-TRA?s=x", "private, no-store", PAGE),
    "a paper's code": Kind(303, "/G/{code}?k={key}", "no-store"),
    "paper keys": Kind(200, "/.well-known/hoso24-paper-keys.json", "public, max-age=300"),
    "figures as json": Kind(200, "/api/v1/statistics", "public, max-age=300"),
    "agencies": Kind(200, "/api/v1/agencies", "public, max-age=300"),
    "sitemap": Kind(200, "/sitemap.xml", "public, max-age=300"),
    "robots": Kind(200, "/robots.txt", "public, max-age=300"),
    "about the site": Kind(200, "/ve-trang-nay", "public, max-age=300", FOUND),
    "privacy in English": Kind(200, "/en/privacy", "public, max-age=300", FOUND),
    "page nowhere": Kind(404, "/nowhere", "private, no-store", PAGE),
    "form's redirect": Kind(301, "/tra-cuu?ma={lower}", FOR_A_DAY),
    "page's redirect": Kind(301, "/tra-cuu/{lower}", FOR_A_DAY),
    "key's redirect": Kind(303, "/tra-cuu/{code}?key={key}", "no-store"),
    "key sent to another spelling": Kind(308, "/tra-cuu/{lower}", FOR_A_DAY, method="POST"),
    "style sheet": Kind(200, "{css}", FOR_EVER),
    "icon": Kind(200, "{icon}", FOR_EVER),
    "style sheet of another release": Kind(200, "/static/site.css?00000000", "no-store"),
    "style sheet of no release": Kind(200, "/static/site.css", "no-store"),
    "style sheet with a longer query": Kind(200, "{css}&x=1", "no-store"),
}
OF_THE_INTAKE = {
    "refusal": Kind(401, "/api/v1/dossiers/{code}", "no-store"),
    "officer's view": Kind(200, "/api/v1/dossiers/{code}", "no-store", headers=(("Authorization", "Bearer {token}"),)),
    "nowhere": Kind(404, "/nowhere", "no-store"),
}
OF_THE_ADMIN = {
    "live": Kind(200, "/livez", "no-store"),
    "ready": Kind(200, "/readyz", "no-store"),
    "health": Kind(200, "/health", "no-store"),
    "metrics": Kind(200, "/metrics", "no-store"),
    "report": Kind(200, "/reports/why?code={code}", "no-store"),
    "nowhere": Kind(404, "/nowhere", "no-store"),
}
VERSIONS = (aiohttp.__version__, platform.python_version())
MADE_WITH = re.compile("|".join(["aiohttp", "python", "uvloop", "hoso24/", *map(re.escape, VERSIONS)]), re.IGNORECASE)


async def check(url: str, kinds: dict[str, Kind], known: dict[str, str]) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        for name, kind in kinds.items():
            address = URL(url + kind.path.format(**known), encoded=True)
            asked = {header: value.format(**known) for header, value in kind.headers}
            for _ in range(2):  # the second time it comes from memory
                request = http.request(
                    kind.method,
                    address,
                    headers=asked,
                    data=kind.body.replace(b"{code}", known["code"].encode()) or None,
                    allow_redirects=False,
                )
                async with request as response:
                    await response.read()
                    assert response.status == kind.status, name
                    assert_dressed(name, kind, response)
                    if kinds is OF_THE_LOOKUP:
                        assert_shared(name, kind, response)


def assert_dressed(name: str, kind: Kind, response: aiohttp.ClientResponse) -> None:
    headers = response.headers
    once = {each: headers.getall(each) for each in ("Cache-Control", "Content-Security-Policy", "Server")}
    assert once == {
        "Cache-Control": [kind.kept],
        "Content-Security-Policy": [kind.policy],
        "Server": ["hoso24"],
    }, name
    assert headers["X-Content-Type-Options"] == "nosniff", name
    assert headers["Referrer-Policy"] == "no-referrer", name
    assert headers["X-Request-Id"], name
    for each in ("X-Frame-Options", "Permissions-Policy", "Cross-Origin-Opener-Policy"):
        assert (each in headers) is (kind.policy != BARE), name
    assert "Strict-Transport-Security" not in headers, name  # the edge's to send, which has the certificate
    assert "X-Powered-By" not in headers, name
    assert not MADE_WITH.search(str(headers)), name
    if kind.status == 200 and ".txt" in kind.path and kind.path != "/robots.txt":
        assert headers["Content-Type"] == "text/plain; charset=utf-8", name
        assert headers["X-Robots-Tag"] == "noindex", name
    if kind.policy != BARE and not 300 <= kind.status < 400:
        assert headers["Content-Type"] == "text/html; charset=utf-8", name


def assert_shared(name: str, kind: Kind, response: aiohttp.ClientResponse) -> None:
    """Exactly what anyone may read may be read by other sites, and it is told what there is to obey."""
    cross_origin = {header for header in response.headers if header.lower().startswith("access-control-")}
    if kind.status == 204:
        assert cross_origin == set(PREFLIGHT), name
    else:
        assert cross_origin == (set(ANY_SITE) if kind.shared else set()), name
    told = {"RateLimit", "RateLimit-Policy"} & set(response.headers)
    assert len(told) == (2 if name in {"batch", "missing", "wrong key", "problem page", "problem as text"} else 0), name


@pytest.mark.parametrize("express_way", [True, False], ids=["quick", "normal"])
async def test_every_kind_of_answer_is_dressed(
    database: Database, redis_url: str, house: House, monkeypatch: pytest.MonkeyPatch, express_way: bool
) -> None:
    receipt = await house.receive()
    code = receipt["code"]
    known = {"code": code, "lower": code.lower(), "key": receipt["lookup_key"], "token": house.token}
    known |= {"css": layout.static_address("site.css"), "icon": layout.static_address("icon.svg")}
    monkeypatch.setattr(early_answers, "is_possible", lambda _: express_way)
    async with lookup_running(lookup_settings(database.reader_url, redis_url)) as served:
        await check(f"http://127.0.0.1:{served.port}", OF_THE_LOOKUP, known)
        await check(f"http://127.0.0.1:{served.admin_port}", OF_THE_ADMIN, known)
    if express_way:
        await check(house.intake_url, OF_THE_INTAKE, known)


def test_no_policy_allows_a_script_a_frame_or_another_house() -> None:
    for policy in (BARE, PAGE, FOUND):
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert "script-src" not in rules
        assert not re.search(r"unsafe|\*|https?:|data:", policy)
    assert dict(rule.strip().split(" ", 1) for rule in PAGE.split(";"))["form-action"] == "'self'"
