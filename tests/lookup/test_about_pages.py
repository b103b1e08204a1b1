"""Who runs the site, privacy, accessibility: what they say follows the settings, and every phrase is on its page."""

from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from aiohttp import hdrs, web
from aiohttp.test_utils import make_mocked_request

from lookup.dossier import Shows
from lookup.upkeep import doctor
from lookup.web import about_pages, layout
from lookup.web.about_pages import ADDRESSES, SECTIONS
from lookup.web.codings import Finished
from lookup.web.layout import KEY_COOKIE
from lookup.web.pages import COOKIE_SECONDS
from lookup.web.phrases import PHRASES
from lookup.web.site import Site
from ops.doctor.findings import Finding, Verdict
from ops.http.finished import takes_gzip
from tests.pages.lines import lines, strange

OWNER = Site("Cơ quan Mẫu (hư cấu)", "hotro@mau.example", "1900 0000", "https://tra-cuu.example")
PAGES = [(name, lang) for name, addresses in ADDRESSES.items() for lang in addresses]
COOKIES = {"cookie": KEY_COOKIE, "minutes": COOKIE_SECONDS // 60, "list_cookie": "hoso24-list", "list_days": 30}
every_page = pytest.mark.parametrize(("name", "lang"), PAGES)


@pytest.fixture
def site() -> Iterator[Site]:
    """Pages name this owner while a test runs."""
    layout.belongs_to(OWNER)
    yield OWNER
    layout.belongs_to(Site())


class Head(HTMLParser):
    """The meta and link elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.meta: dict[str, str] = {}
        self.links: list[tuple[str, str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        if tag == "meta" and "name" in of:
            self.meta[of["name"]] = of["content"]
        if tag == "link" and of["rel"] in ("canonical", "alternate"):
            self.links.append((of["rel"], of.get("hreflang", ""), of["href"]))


async def text_of(path: str, shows: frozenset[Shows] = frozenset()) -> str:
    app = web.Application()
    app.add_routes(about_pages.routes(shows))
    request = make_mocked_request("GET", path, app=app)
    response = await (await app.router.resolve(request)).handler(request)
    assert isinstance(response, web.Response)
    assert response.status == 200
    assert isinstance(response.body, bytes)
    return response.body.decode()


@every_page
async def test_every_phrase_of_a_page_is_on_it(name: str, lang: str, site: Site) -> None:
    page = "\n".join(lines(await text_of(ADDRESSES[name][lang])))
    keys = {f"{name}.{section}.{part}" for section in SECTIONS[name] for part in ("title", "text")}
    others = {key for key in PHRASES[lang] if key.startswith("privacy.more")}
    assert {key for key in PHRASES[lang] if key.startswith(f"{name}.")} - others == keys | {
        f"{name}.title",
        f"{name}.lead",
    }
    for key in keys:
        for line in PHRASES[lang][key].format(**COOKIES).splitlines():
            assert line in page, key


@every_page
async def test_owner_contact_and_hotline_are_those_of_the_settings(name: str, lang: str, site: Site) -> None:
    read = lines(await text_of(ADDRESSES[name][lang]))
    words = PHRASES[lang]
    assert f"{words['owner.name']}: {OWNER.owner}" in read
    assert f"{words['owner.contact']}: [{OWNER.contact}](mailto:{OWNER.contact})" in read
    assert f"{words['owner.hotline']}: [1900 0000](tel:19000000)" in read
    run_by = {"vi": "Hồ sơ 24 – trang tra cứu của", "en": "Hồ sơ 24, run by"}
    assert f"{run_by[lang]} {OWNER.owner}" in read


@every_page
async def test_page_says_that_no_owner_is_declared(name: str, lang: str) -> None:
    read = lines(await text_of(ADDRESSES[name][lang]))
    assert PHRASES[lang]["owner.missing"] in read
    assert PHRASES[lang]["owner.no_contact"] in read


@every_page
async def test_page_is_found_under_one_absolute_address_in_each_language(name: str, lang: str, site: Site) -> None:
    head = Head(await text_of(ADDRESSES[name][lang]))
    addresses = {each: OWNER.public_url + path for each, path in ADDRESSES[name].items()}
    assert head.links == [
        ("canonical", "", addresses[lang]),
        ("alternate", "vi", addresses["vi"]),
        ("alternate", "en", addresses["en"]),
        ("alternate", "x-default", addresses["vi"]),
    ]
    assert head.meta["description"] == PHRASES[lang][f"{name}.lead"]
    assert "robots" not in head.meta


@pytest.mark.parametrize("lang", layout.FORMS)
def test_form_is_found_under_one_absolute_address_and_a_refusal_is_not(lang: str, site: Site) -> None:
    head = Head(layout.render("form.html", lang, {"other_url": "/"}))
    assert ("canonical", "", OWNER.public_url + layout.FORMS[lang]) in head.links
    assert head.meta["description"] == PHRASES[lang]["form.lead"]
    assert (
        Head(
            layout.render(
                "form.html",
                lang,
                {"other_url": "/", "problem": "x", "typed": "y", "errors": [{"text": "x", "href": "#code"}]},
            )
        ).links
        == []
    )


@pytest.mark.parametrize("name", ADDRESSES)
async def test_english_page_says_of_each_vietnamese_text_that_it_is_one(name: str, site: Site) -> None:
    title, *others = strange(await text_of(ADDRESSES[name]["en"]))
    assert title.endswith(" · Hồ sơ 24")
    assert others == []


async def test_privacy_names_what_this_installation_shows_to_everyone() -> None:
    for lang, path in ADDRESSES["privacy"].items():
        bare, more = await text_of(path), await text_of(path, frozenset({Shows.DUE, Shows.SERVICE}))
        words = PHRASES[lang]
        sentence = words["privacy.more"].format(fields=f"{words['privacy.more.due']}, {words['privacy.more.service']}")
        assert sentence in lines(more)
        assert len(lines(bare)) == len(lines(more)) - 1


@pytest.mark.parametrize("lang", PHRASES)
def test_every_field_that_anyone_may_be_shown_has_a_name(lang: str) -> None:
    named = {key.removeprefix("privacy.more.") for key in PHRASES[lang] if key.startswith("privacy.more.")}
    assert named == {each.value for each in Shows}


async def test_owner_s_own_words_are_text() -> None:
    hostile = '<script>alert(1)</script>"><img src=x>{{7*7}}'
    layout.belongs_to(Site(hostile, hostile, hostile, "https://tra-cuu.example"))
    try:
        text = await text_of("/ve-trang-nay")
    finally:
        layout.belongs_to(Site())
    assert f"Đơn vị: {hostile}" in lines(text)
    assert "<script" not in text
    assert "{{7*7}}" in text


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("hotro@mau.example", "mailto:hotro@mau.example"),
        ("https://mau.example/lien-he", "https://mau.example/lien-he"),
        ("http://mau.example", None),
        ("javascript:alert(1)", None),
        ("Số 1, đường Mẫu", None),
        ("a@b.example?subject=x", None),
        ("", None),
    ],
)
def test_contact_is_a_link_only_where_it_is_an_address(contact: str, link: str | None) -> None:
    assert Site(contact=contact).contact_link == link


@pytest.mark.parametrize(
    ("number", "link"),
    [("1900 0000", "tel:19000000"), ("+84 24 0000.0000", "tel:+842400000000"), ("(024) 0000", None), ("gọi 1", None)],
)
def test_hotline_is_dialled_only_where_it_is_a_number(number: str, link: str | None) -> None:
    assert Site(hotline=number).hotline_link == link


# -- what the doctor says of it ------------------------------------------------------------------------------

NAMED = {"HOSO24_SITE_OWNER": "Cơ quan A", "HOSO24_SITE_OWNER_CONTACT": "a@a.example", "HOSO24_HOTLINE": "1900 1"}
OUTSIDE = {"HOSO24_PUBLIC_URL": "https://tra-cuu.example", "HOSO24_PG_READER_URL": "postgresql://reader@one/hoso24"}


async def examined(environ: dict[str, str]) -> Finding:
    (check,) = doctor.site(environ)
    (finding,) = await check.ask()
    return finding


async def test_doctor_finds_a_site_that_names_no_owner_or_the_sample_s() -> None:
    finding = await examined(OUTSIDE)
    assert finding.verdict is Verdict.WARNING
    for name in NAMED:
        assert name in finding.found
        assert name in finding.next_step
    finding = await examined(OUTSIDE | NAMED | {"HOSO24_HOTLINE": "1900 0000 (hư cấu)"})
    assert finding.verdict is Verdict.WARNING
    assert "HOSO24_HOTLINE names a fictitious" in finding.found
    assert "HOSO24_SITE_OWNER" not in finding.next_step
    finding = await examined(OUTSIDE | NAMED)
    assert (finding.verdict, finding.found) == (Verdict.OK, "run by Cơ quan A")


@pytest.mark.parametrize("change", [{"HOSO24_PUBLIC_URL": "http://127.0.0.1:8080"}, {"HOSO24_PG_READER_URL": ""}])
def test_owner_is_asked_for_only_where_citizens_reach_a_lookup(change: dict[str, str]) -> None:
    """An intake's pod has no settings of pages; on one's own machine nobody has to be named."""
    assert doctor.site(OUTSIDE | change) == []


# -- finished bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP, deflate", True),
        ("br;q=1.0, gzip; q=0.5", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *;q=1", False),
        ("*", True),
        ("*;q=0", False),
        ("x-gzip", True),
        ("br, zstd", False),
        ("gzip;q=0.001", True),
    ],
)
def test_gzip_is_sent_to_clients_that_take_it(accepted: str, takes: bool) -> None:
    assert takes_gzip(accepted) is takes


def test_each_coding_has_a_tag_of_its_own_and_only_its_holder_gets_304() -> None:
    ready = Finished(b"text " * 200, "text/plain; charset=utf-8", {hdrs.CACHE_CONTROL: "public, max-age=1"})

    def asked(**headers: str) -> web.Response:
        return ready.answer(
            make_mocked_request("GET", "/", headers={k.replace("_", "-"): v for k, v in headers.items()})
        )

    plain, packed = asked(), asked(Accept_Encoding="gzip")
    assert isinstance(plain.body, bytes)
    assert isinstance(packed.body, bytes)
    assert len(packed.body) < len(plain.body)
    assert packed.headers["Content-Encoding"] == "gzip"
    tags = plain.headers["ETag"], packed.headers["ETag"]
    assert tags[0] != tags[1]
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert asked(If_None_Match=tags[0]).status == 304
    assert asked(If_None_Match=tags[1], Accept_Encoding="gzip").status == 304
    assert asked(If_None_Match=tags[0], Accept_Encoding="gzip").status == 200
    assert asked(If_None_Match=tags[0]).headers["Cache-Control"] == "public, max-age=1"
