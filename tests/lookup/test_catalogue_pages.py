"""The service catalogue: pages in two languages, JSON, linked data, sitemap. What the catalogue says stays text."""

import asyncio
import json
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.robotparser import RobotFileParser

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from yarl import URL

import lookup.web.services
from lookup.catalogue import Catalogue, Part, TimeLimit, load
from lookup.web import about_pages, catalogue_pages, layout
from lookup.web.catalogue_pages import CatalogueBoard, CatalogueUnread, NoSuchService
from lookup.web.layout import FORMS, SERVICE_STATUS, STATISTICS, VERIFY
from lookup.web.layout import SERVICES as LISTS
from lookup.web.phrases import PHRASES
from lookup.web.phrases.catalogue import day_phrase, limit_phrase
from lookup.web.problem_pages import problem_page
from lookup.web.services import apply_link
from lookup.web.site import Site
from ops.errors import Refusal
from ops.http.endpoints import serve
from tests.house import House
from tests.lookup.catalogues import AGENCIES, ATTACKING, BARE, CATALOGUE, ENDED, FULL, HOSTILE, SERVICES, TO_COME, TODAY
from tests.pages.lines import lines, strange

SITE = Site("Cơ quan Mẫu (hư cấu)", "hotro@mau.example", "1900 0000", "https://tra-cuu.example")
LANGUAGES = tuple(LISTS)
every_language = pytest.mark.parametrize("lang", LANGUAGES)
SITEMAP_NAMES = {"s": "http://www.sitemaps.org/schemas/sitemap/0.9", "x": "http://www.w3.org/1999/xhtml"}


@dataclass
class Copy:
    """A process's copy of the catalogue, and the day, as a test wants them."""

    current: Catalogue = CATALOGUE
    known: bool = True
    today: date = TODAY
    app: web.Application = field(default_factory=web.Application)

    def __post_init__(self) -> None:
        board = CatalogueBoard(self, SITE, lambda: self.today)
        serve(self.app, catalogue_pages.endpoints(board))
        self.app.add_routes(catalogue_pages.routes(board))
        self.app.add_routes(about_pages.routes(frozenset()))

    async def ask(self, path: str, **headers: str) -> web.Response:
        """The answer of the route that has this path. Raises the refusal where there is one."""
        request = make_mocked_request("GET", path, headers=headers, app=self.app)
        matched = await self.app.router.resolve(request)
        request._match_info = matched
        response = await matched.handler(request)
        assert isinstance(response, web.Response)
        return response

    async def text(self, path: str) -> str:
        response = await self.ask(path)
        assert response.status == 200
        assert isinstance(response.body, bytes)
        return response.body.decode()

    async def json(self, path: str) -> Any:
        return json.loads(await self.text(path))


@pytest.fixture(autouse=True)
def site() -> Iterator[Site]:
    layout.belongs_to(SITE)
    yield SITE
    layout.belongs_to(Site())


class Parts(HTMLParser):
    """A page's elements, its script elements' text, its links."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: dict[str, str] = {}
        self.metas: dict[str, str] = {}
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.anchors: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((of, ""))
        if tag == "a":
            self.anchors.append(of["href"])
        if tag == "meta" and "name" in of:
            self.metas[of["name"]] = of["content"]
        if tag == "link":
            self.links[f"{of['rel']} {of.get('hreflang', '')}".strip()] = of["href"]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            of, said = self.scripts[-1]
            self.scripts[-1] = of, said + data

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    @property
    def linked_data(self) -> dict[str, Any]:
        ((attributes, said),) = self.scripts
        assert attributes == {"type": "application/ld+json"}
        found: dict[str, Any] = json.loads(said)
        return found


def page_of(code: str, lang: str) -> str:
    return f"{LISTS[lang]}/{quote(code, safe='')}"


# -- the list ----------------------------------------------------------------------------------------------


@every_language
async def test_list_names_what_is_in_force_or_to_come_by_field(lang: str) -> None:
    page = await Copy().text(LISTS[lang])
    read = lines(page)
    vietnamese = lang == "vi"
    assert [line for line in read if line.startswith("## ")] == [
        f"## {PHRASES[lang]['field.BHXH-Thu']}",
        "## LVX",
        f"## {' '.join(f'Lĩnh vực {HOSTILE}'.split())}",
    ]
    usual = "trực tuyến 12 giờ làm việc, hình thức nộp khác 5 ngày làm việc"
    usual = usual if vietnamese else "online 12 working hours, any other way 5 working days"
    since = "1 ngày làm việc · áp dụng từ 01/01/2027" if vietnamese else "1 working day · in force from 1 January 2027"
    for service, more in ((FULL, f" · {usual}"), (BARE, ""), (TO_COME, f" · {since}")):
        name = service.name_vi if vietnamese else service.name_en
        assert f"[{name}]({page_of(service.code, lang)}) {service.code}{more}" in read
    assert ENDED.code not in page
    assert PHRASES[lang]["services.sample"] in read
    assert PHRASES[lang]["services.count"].format(n=4) in " ".join(read)


@every_language
async def test_list_of_an_empty_catalogue_says_so(lang: str) -> None:
    assert PHRASES[lang]["services.none"] in lines(await Copy(Catalogue()).text(LISTS[lang]))


# -- a service ---------------------------------------------------------------------------------------------


async def test_service_in_full_in_vietnamese() -> None:
    read = lines(await Copy().text("/dich-vu/1.001"))
    assert read[: read.index("[Xem danh mục thủ tục](/dich-vu)")][5:] == [
        "# Cấp lại thẻ bảo hiểm y tế",
        "Danh mục mẫu, chỉ để thử nghiệm.",
        "## Thông tin chung",
        "Mã thủ tục: 1.001",
        "Tên tiếng Anh: Re-issue of the health card",
        "Hiệu lực: Áp dụng từ 01/01/2020, hết hiệu lực từ 01/01/2030",
        "Lĩnh vực: Thu bảo hiểm xã hội, bảo hiểm y tế, bảo hiểm thất nghiệp",
        "Cơ quan thực hiện: Bảo hiểm xã hội tỉnh Sông Mây (hư cấu); Bảo hiểm xã hội Xứ Mẫu (hư cấu)",
        "Cách thức thực hiện: trực tiếp, trực tuyến, qua dịch vụ bưu chính công ích",
        "Dịch vụ công trực tuyến: toàn trình",
        "Phí, lệ phí: Không thu phí",
        "Kết quả thực hiện: Thẻ bảo hiểm y tế",
        "## Thời hạn giải quyết",
        "Thông thường, trực tuyến: 12 giờ làm việc",
        "Thông thường, trực tuyến: 1 ngày làm việc từ 01/01/2027",
        "Thông thường, hình thức nộp khác: 5 ngày làm việc căn cứ: Điều 5 văn bản mẫu",
        "Có xác nhận, trực tiếp: trả kết quả ngay",
        "Trường hợp phải thẩm tra, xác minh, mọi hình thức nộp: 45 ngày",
        "Tính từ khi cơ quan nhận đủ hồ sơ.",
        "## Thành phần hồ sơ",
        "Tờ khai mẫu (01 bản chính)",
        "Giấy tờ tùy thân",
        "Số lượng: 2 bộ",
        "## Thủ tục hành chính liên thông",
        "Các cơ quan giải quyết lần lượt:",
        "Bảo hiểm xã hội tỉnh Sông Mây (hư cấu): Kiểm tra, 2 ngày làm việc",
        "Bảo hiểm xã hội Xứ Mẫu (hư cấu): Quyết định, 3 ngày làm việc",
        "## Nơi nộp hồ sơ",
        "[Nộp hồ sơ trực tuyến](https://nop.example/thu-tuc?ma=1.001&nguon=hoso24)",
        "Liên kết này mở trang của cơ quan.",
        "Nộp trực tiếp hoặc qua bưu chính: bộ phận tiếp nhận và trả kết quả của cơ quan.",
        "Trang này không nhận hồ sơ.",
        "Tổng đài hỗ trợ: [1900 0000](tel:19000000)",
        "## Căn cứ pháp lý",
        "Luật mẫu số 1",
        "Nghị định mẫu số 2",
    ]


async def test_service_in_full_in_english_marks_what_is_vietnamese() -> None:
    page = await Copy().text("/en/services/1.001")
    read = lines(page)
    for line in (
        "# Re-issue of the health card",
        "Name in Vietnamese: Cấp lại thẻ bảo hiểm y tế",
        "Validity: In force from 1 January 2020, ends on 1 January 2030",
        "Agency: Social Insurance of Song May; Social Insurance of Sampleland",
        "How to apply: in person, online, by post",
        "Fees: Không thu phí",
        "Usually, any other way: 5 working days source: Điều 5 văn bản mẫu",
        "Usually, online: 1 working day from 1 January 2027",
        "Có xác nhận, in person: at once",
        "Where verification is required, however you apply: 45 days",
        "Sample form (01 bản chính)",
        "Giấy tờ tùy thân",
    ):
        assert line in read
    title, *others = strange(page)
    assert title.endswith(" · Hồ sơ 24")
    assert others == []


@every_language
async def test_what_the_catalogue_does_not_state_is_not_made_up(lang: str) -> None:
    page = await Copy().text(page_of(BARE.code, lang))
    read = lines(page)
    words = PHRASES[lang]
    assert words["service_page.times.none"] in read
    assert words["service_page.papers.none"] in read
    assert f"{words['service_page.agency']}: {words['service_page.agency_of_receipt']}" in read
    assert words["services.sample"] not in read
    for absent in ("fee", "result", "channels", "online", "legal_basis", "interlinked", "apply.online"):
        assert words[f"service_page.{absent}"] not in "\n".join(read[: read.index(f"## {words['service_page.times']}")])
    assert [each for each in Parts(page).anchors if each.startswith("http")] == []


@every_language
async def test_service_that_is_only_online_names_no_desk(lang: str) -> None:
    online = msgspec.structs.replace(FULL, channels=("online",))
    read = lines(await Copy(Catalogue({}, {online.code: online})).text(page_of(online.code, lang)))
    assert PHRASES[lang]["service_page.apply.desk"] not in read
    assert PHRASES[lang]["service_page.apply.not_here"] in read
    assert f"[{PHRASES[lang]['service_page.apply.online']}]({FULL.apply_url})" in read


@every_language
async def test_ended_service_says_so_and_leads_nobody_to_apply(lang: str) -> None:
    page = await Copy().text(page_of(ENDED.code, lang))
    assert PHRASES[lang]["service_page.ended"].format(date=day_phrase(TODAY, lang)) in page
    assert "nop.example" not in page
    parts = Parts(page)
    assert parts.metas["robots"] == "noindex"
    assert parts.scripts == []
    assert "canonical" not in parts.links


async def test_service_ends_at_the_day_s_beginning_in_vietnam_without_another_load() -> None:
    copy = Copy(today=date(2026, 11, 29))
    assert "đã hết hiệu lực" not in re.sub(r"<[^>]*>", "", await copy.text("/dich-vu/1.003")).replace(ENDED.name_vi, "")
    assert "1.003" in await copy.text("/dich-vu")
    copy.today = TODAY
    assert "Thủ tục này đã hết hiệu lực từ 30/11/2026." in await copy.text("/dich-vu/1.003")
    assert "1.003" not in await copy.text("/dich-vu")


@every_language
async def test_service_is_found_under_one_absolute_address_in_each_language(lang: str) -> None:
    addresses = {each: f"{SITE.public_url}{LISTS[each]}/1.001" for each in LANGUAGES}
    parts = Parts(await Copy().text(page_of("1.001", lang)))
    assert parts.links["canonical"] == addresses[lang]
    assert {each: parts.links[f"alternate {each}"] for each in LANGUAGES} == addresses
    assert parts.links["alternate x-default"] == addresses["vi"]
    assert parts.metas["description"] == PHRASES[lang]["service_page.lead"].format(
        name=FULL.name_vi if lang == "vi" else FULL.name_en
    )


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/dich-vu/9.999", "/en/services/9.999", "/api/v1/services/9.999"])
async def test_unknown_service_is_not_found(path: str) -> None:
    with pytest.raises(NoSuchService):
        await Copy().ask(path)


@pytest.mark.parametrize("path", ["/dich-vu", "/en/services/1.001", "/api/v1/services", "/api/v1/agencies"])
async def test_catalogue_that_was_not_read_yet_is_no_empty_one(path: str) -> None:
    copy = Copy(Catalogue(), known=False)
    with pytest.raises(CatalogueUnread):
        await copy.ask(path)
    copy.current, copy.known = CATALOGUE, True
    assert (await copy.ask(path)).status == 200


@pytest.mark.parametrize(("refusal", "status"), [(NoSuchService(), 404), (CatalogueUnread(), 503)])
@every_language
def test_refusals_have_pages_of_their_own(refusal: Refusal, status: int, lang: str) -> None:
    response = problem_page(page_of("9.999", lang), refusal)
    assert response is not None
    assert response.status == status
    read = lines(response.text or "")
    assert f"# {PHRASES[lang][f'problem.{refusal.code}.title']}" in read
    assert (refusal.title_vi if lang == "vi" else refusal.title) in read


# -- texts that attack -------------------------------------------------------------------------------------


@every_language
async def test_texts_of_the_catalogue_stay_texts(lang: str) -> None:
    for path in (LISTS[lang], page_of(ATTACKING.code, lang)):
        page = await Copy().text(path)
        parts = Parts(page)
        assert "img" not in parts.tags
        assert len(parts.scripts) == (path != LISTS[lang])
        assert "{{7*7}}" in page
        assert not [each for each in parts.anchors if urlsplit(each).scheme not in ("", "https", "tel", "mailto")]
    assert parts.linked_data["name"] == (ATTACKING.name_vi if lang == "vi" else ATTACKING.name_en)
    assert "javascript:" not in page


async def test_only_https_addresses_leave_as_links() -> None:
    copy = Copy()
    listed = {each["code"]: each for each in (await copy.json("/api/v1/services"))["services"]}
    assert listed[FULL.code]["apply_url"] == FULL.apply_url
    assert listed[ATTACKING.code]["apply_url"] is None
    agencies = {each["code"]: each for each in (await copy.json("/api/v1/agencies"))["agencies"]}
    assert agencies["G99.01"]["complaint_url"] == "https://mau.example/phan-anh"
    assert agencies["G99.02"]["complaint_url"] is None


# -- linked data -------------------------------------------------------------------------------------------


@every_language
async def test_linked_data_has_what_schema_org_asks_of_a_government_service(lang: str) -> None:
    copy = Copy()
    for service in (FULL, BARE, TO_COME, ATTACKING):
        document = Parts(await copy.text(page_of(service.code, lang))).linked_data
        assert document["@context"] == "https://schema.org"
        assert document["@type"] == "GovernmentService"
        assert document["name"] == (service.name_vi if lang == "vi" else service.name_en)
        assert document["identifier"] == service.code
        assert document["url"] == SITE.public_url + page_of(service.code, lang)
        assert document["inLanguage"] == lang
        assert {each["@type"] for each in document["provider"]} == {"GovernmentOrganization"}
        assert all(each["name"] for each in document["provider"])
    full = Parts(await copy.text(page_of(FULL.code, lang))).linked_data
    (online,) = [each for each in full["availableChannel"] if "serviceUrl" in each]
    assert (online["name"], online["serviceUrl"]) == (PHRASES[lang]["channel.online"], FULL.apply_url)
    assert len(full["availableChannel"]) == 3
    assert {each["@type"] for each in full["availableChannel"]} == {"ServiceChannel"}
    assert (full["offers"]["@type"], full["serviceOutput"]["@type"]) == ("Offer", "Thing")
    assert full["offers"]["description"] == FULL.fee_vi
    assert full["serviceOutput"]["name"] == (FULL.result_vi if lang == "vi" else FULL.result_en)


async def test_linked_data_names_no_agency_that_the_catalogue_does_not() -> None:
    another = msgspec.structs.replace(AGENCIES[0], code="H99", name_vi="Cơ quan khác", name_en="Another agency")
    trees = Copy(Catalogue({**CATALOGUE.agencies, another.code: another}, CATALOGUE.services))
    assert "provider" not in Parts(await trees.text("/dich-vu/1.002")).linked_data
    ((provider,),) = [Parts(await Copy().text("/dich-vu/1.002")).linked_data["provider"]]
    assert provider["name"] == AGENCIES[0].name_vi
    named = Parts(await trees.text("/dich-vu/1.001")).linked_data["provider"]
    assert [each["name"] for each in named] == [AGENCIES[1].name_vi, AGENCIES[0].name_vi]


# -- JSON --------------------------------------------------------------------------------------------------


async def test_json_has_every_service_and_says_which_are_in_force() -> None:
    document = await Copy().json("/api/v1/services")
    assert document["sample"] is True
    assert document["revision"] == CATALOGUE.revision
    assert {each["code"]: each["in_force"] for each in document["services"]} == {
        FULL.code: True,
        BARE.code: True,
        ENDED.code: False,
        TO_COME.code: False,
        ATTACKING.code: True,
    }
    (full,) = [each for each in document["services"] if each["code"] == FULL.code]
    assert (full["name"], full["name_en"]) == (FULL.name_vi, FULL.name_en)
    assert (full["page"], full["page_en"]) == tuple(f"{SITE.public_url}{LISTS[each]}/1.001" for each in LANGUAGES)
    assert (full["valid_from"], full["valid_to"]) == ("2020-01-01", "2030-01-01")
    for each in full["time_limits"]:
        stated = [each["at_once"] or None, each["calendar_days"], each["working_hours"]]
        assert len([value for value in stated if value is not None]) == 1, each


async def test_json_of_one_service_has_what_the_list_has_and_the_details() -> None:
    copy = Copy()
    one = await copy.json("/api/v1/services/1.001")
    (listed,) = [each for each in (await copy.json("/api/v1/services"))["services"] if each["code"] == "1.001"]
    assert {key: one[key] for key in listed} == listed
    assert one["documents"] == {
        "sets": 2,
        "list": [
            {"name": "Tờ khai mẫu", "name_en": "Sample form", "copies": "01 bản chính"},
            {"name": "Giấy tờ tùy thân", "name_en": "", "copies": None},
        ],
    }
    assert one["legal_basis"] == ["Luật mẫu số 1", "Nghị định mẫu số 2"]
    assert one["route"][0]["agency"]["name_en"] == "Social Insurance of Song May"
    bare = await copy.json("/api/v1/services/1.002")
    assert (bare["documents"], bare["route"], bare["fee"]) == (None, None, None)


async def test_json_of_agencies_has_contacts_validity_and_successors() -> None:
    agencies = {each["code"]: each for each in (await Copy().json("/api/v1/agencies"))["agencies"]}
    assert list(agencies) == ["G99", "G99.01", "G99.02"]
    here, gone = agencies["G99.01"], agencies["G99.02"]
    assert (here["hotline"], here["email"], here["address_en"]) == ("1900 0001", "songmay@mau.example", "1 Mau Street")
    assert (here["in_force"], gone["in_force"], gone["successor"]) == (True, False, "G99.01")


# -- kept bytes --------------------------------------------------------------------------------------------

KEPT = [
    *("/dich-vu", "/en/services", "/dich-vu/1.001", "/en/services/1.001", "/api/v1/services", "/api/v1/services/1.001"),
    *("/api/v1/agencies", "/sitemap.xml"),
]


@pytest.mark.parametrize("path", KEPT)
async def test_answer_is_kept_until_the_catalogue_changes(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Copy()
    first = await copy.ask(path)
    tag = first.headers["ETag"]
    assert (await copy.ask(path, **{"If-None-Match": tag})).status == 304
    packed = await copy.ask(path, **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert first.headers["Cache-Control"] == packed.headers["Cache-Control"] == "public, max-age=300"
    with monkeypatch.context() as patch:
        patch.setattr(lookup.web.services, "words", None)  # whatever makes an answer fails now
        patch.setattr(lookup.web.services, "shown", None)
        copy.current = Catalogue(dict(CATALOGUE.agencies), dict(CATALOGUE.services))  # reread, and the same
        assert (await copy.ask(path)).body is first.body
    more = {**CATALOGUE.services, "1.005": BARE.__class__("1.005", "Mới", "New", "LVX", False, ())}
    renamed = {each: CATALOGUE.agencies[each] for each in ("G99",)}
    changed = {**more, "1.001": BARE.__class__("1.001", "Tên mới", "New name", "LVX", False, ())}
    copy.current = Catalogue(renamed, changed)
    assert (await copy.ask(path, **{"If-None-Match": tag})).status == 200


async def test_answer_is_made_once_and_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of two thousand services takes a tenth of a second, for which no lookup may wait."""
    copy, goes_on, made, make = Copy(), threading.Event(), [], CatalogueBoard._list_page

    def slowly(board: CatalogueBoard, lang: str) -> str:
        made.append(goes_on.wait(10))
        return make(board, lang)

    monkeypatch.setattr(CatalogueBoard, "_list_page", slowly)
    asking = asyncio.gather(*(copy.ask("/dich-vu") for _ in range(3)))
    await asyncio.sleep(0)
    goes_on.set()
    first, *others = await asking
    assert made == [True]
    assert all(other.body is first.body for other in others)


async def test_answer_that_could_not_be_made_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Copy()
    with monkeypatch.context() as patch:
        patch.setattr(CatalogueBoard, "_list_page", None)
        with pytest.raises(TypeError):
            await copy.ask("/dich-vu")
    assert (await copy.ask("/dich-vu")).status == 200


async def test_answer_of_a_catalogue_that_was_replaced_meanwhile_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    copy, goes_on, make = Copy(), threading.Event(), CatalogueBoard._list_page

    def slowly(board: CatalogueBoard, lang: str) -> str:
        text = make(board, lang)
        goes_on.wait(10)
        return text

    with monkeypatch.context() as patch:
        patch.setattr(CatalogueBoard, "_list_page", slowly)
        asking = asyncio.create_task(copy.ask("/dich-vu"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        copy.current = Catalogue()
        assert (await copy.ask("/robots.txt")).status == 200
        goes_on.set()
        await asking
    assert PHRASES["vi"]["services.none"] in await copy.text("/dich-vu")


# -- sitemap and robots ------------------------------------------------------------------------------------


async def test_sitemap_names_pages_that_are_there_with_their_other_language() -> None:
    copy = Copy()
    tree = ET.fromstring(await copy.text("/sitemap.xml"))  # noqa: S314 - our own
    urls = {
        entry.findtext("s:loc", "", SITEMAP_NAMES): {
            link.attrib["hreflang"]: link.attrib["href"] for link in entry.findall("x:link", SITEMAP_NAMES)
        }
        for entry in tree.findall("s:url", SITEMAP_NAMES)
    }
    paths = {urlsplit(url).path for url in urls}
    assert {*FORMS.values(), *LISTS.values(), *SERVICE_STATUS.values(), "/ve-trang-nay", "/en/accessibility"} <= paths
    assert {page_of(each.code, lang) for each in (FULL, BARE, TO_COME, ATTACKING) for lang in LANGUAGES} <= paths
    assert page_of(ENDED.code, "vi") not in paths
    assert not [path for path in paths if path.startswith(tuple(f"{form}/" for form in FORMS.values()))]
    for url, others in urls.items():
        assert url.startswith(SITE.public_url)
        assert url in others.values()
        assert others.keys() == set(LANGUAGES)
        assert set(others.values()) <= urls.keys()
        path = url.removeprefix(SITE.public_url)
        elsewhere = (FORMS, SERVICE_STATUS, STATISTICS, VERIFY)  # their own tests look at these
        if path not in {each for pair in elsewhere for each in pair.values()}:
            page = Parts(await copy.text(path))
            assert page.links["canonical"] == url
            assert "robots" not in page.metas


async def test_sitemap_is_there_before_the_catalogue_is() -> None:
    copy = Copy(Catalogue(), known=False)
    assert "/ve-trang-nay" in await copy.text("/sitemap.xml")
    copy.current, copy.known = CATALOGUE, True
    assert "/dich-vu/1.001" in await copy.text("/sitemap.xml")


async def test_robots_may_read_all_that_is_in_the_sitemap_and_all_that_says_noindex() -> None:
    copy = Copy()
    robots = RobotFileParser()
    robots.parse((await copy.text("/robots.txt")).splitlines())
    assert robots.site_maps() == [f"{SITE.public_url}/sitemap.xml"]
    tree = ET.fromstring(await copy.text("/sitemap.xml"))  # noqa: S314 - our own
    found = [entry.findtext("s:loc", "", SITEMAP_NAMES) for entry in tree]
    for url in [*found, *(f"{SITE.public_url}{form}/G99.01.01-261130-0001" for form in FORMS.values())]:
        assert robots.can_fetch("Googlebot", url)


async def test_every_address_of_the_sitemap_of_a_running_lookup_is_there(house: House) -> None:
    async with house.http.get(f"{house.lookup_url}/sitemap.xml") as response:
        tree = ET.fromstring(await response.text())  # noqa: S314 - our own
    found = [entry.findtext("s:loc", "", SITEMAP_NAMES) for entry in tree]
    assert len(found) > 20
    for url in found:
        path = urlsplit(url).path
        async with house.http.get(house.lookup_url + path, allow_redirects=False) as response:
            assert response.status == 200, url
            parts = Parts(await response.text())
        assert urlsplit(parts.links["canonical"]).path == path, url
        assert "robots" not in parts.metas, url
    for path in ("/dich-vu/9.999", "/en/services/9.999", "/api/v1/services/9.999"):
        async with house.http.get(house.lookup_url + path) as response:
            assert response.status == 404
    slashed = URL(house.lookup_url + page_of("a/b", "vi"), encoded=True)
    async with house.http.get(slashed) as response:
        assert PHRASES["vi"]["problem.service_not_found.title"] in await response.text()


# -- words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "days", "vi", "en"),
    [
        (40, None, "5 ngày làm việc", "5 working days"),
        (8, None, "1 ngày làm việc", "1 working day"),
        (4, None, "4 giờ làm việc", "4 working hours"),
        (1, None, "1 giờ làm việc", "1 working hour"),
        (12, None, "12 giờ làm việc", "12 working hours"),
        (None, 30, "30 ngày", "30 days"),
        (None, 1, "1 ngày", "1 day"),
        (None, None, "trả kết quả ngay", "at once"),
    ],
)
def test_time_limit_is_said_in_its_own_unit(hours: int | None, days: int | None, vi: str, en: str) -> None:
    assert limit_phrase(hours, days, "vi") == vi
    assert limit_phrase(hours, days, "en") == en


def test_day_is_said_so_that_it_can_be_one_day_only() -> None:
    assert [day_phrase(date(2026, 12, 9), lang) for lang in LANGUAGES] == ["09/12/2026", "9 December 2026"]
    months = {day_phrase(date(2026, n, 1), "en").split()[1] for n in range(1, 13)}
    assert months == {date(2026, n, 1).strftime("%B") for n in range(1, 13)}


@every_language
def test_every_field_and_case_of_the_sample_has_a_name(lang: str) -> None:
    for service in load.sample()[1]:
        assert f"field.{service.field_code}" in PHRASES[lang]
        for each in service.times:
            assert f"service_case.{each.service_case}" in PHRASES[lang]


@pytest.mark.parametrize(
    ("address", "leaves"),
    [
        ("https://nop.example", True),
        ("https://nop.example:8443/thu-tuc?ma=1#buoc-2", True),
        ("http://nop.example/", False),
        ("https://vi.example@nop.example/", False),
        ("javascript:alert(1)", False),
        ("https://nop.example/ onclick=x", False),
        ('https://nop.example/"x', False),
        ("//nop.example/", False),
    ],
)
def test_link_for_applying_is_an_https_address_or_none(address: str, leaves: bool) -> None:
    assert (apply_link(msgspec.structs.replace(FULL, apply_url=address)) is not None) is leaves


def test_every_service_of_these_tests_is_another_case() -> None:
    assert len({each.code for each in SERVICES}) == len(SERVICES)


def test_limit_that_has_ended_is_told_neither_to_citizens_nor_to_programs() -> None:
    now, ended = TimeLimit("any", 16, date(2020, 1, 1)), TimeLimit("any", 40, date(2020, 1, 1), valid_to=TODAY)
    service = msgspec.structs.replace(BARE, times=(ended, now))
    assert [each.working_hours for each in lookup.web.services.shown(service, TODAY, SITE).time_limits] == [16]
    assert [each["until"] for each in lookup.web.services.words(service, CATALOGUE, TODAY, "vi")["times"]] == [None]
    assert len(lookup.web.services.shown(service, TODAY - timedelta(days=1), SITE).time_limits) == 2


def test_way_between_agencies_is_told_where_there_are_two() -> None:
    for agencies, told in ((("G99.01",), 0), (("G99.01", "G99.01"), 0), (("G99.01", "G99"), 2), ((None, "G99"), 0)):
        service = msgspec.structs.replace(BARE, route=tuple(Part("Việc", 8, each) for each in agencies))
        assert len(lookup.web.services.words(service, CATALOGUE, TODAY, "en")["route"]) == told, agencies
