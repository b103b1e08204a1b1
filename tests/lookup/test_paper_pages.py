"""The page that verifies papers, and where a paper's codes lead: with public keys alone, and nothing else answering."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from intake.papers.codes import link, stamp_link
from lookup.paper_stamp import PublicKeys
from lookup.web import layout, paper_pages
from lookup.web.paper_pages import PaperPages, read_keys
from ops.settings import SettingsError
from tests.house import House
from tests.lookup.test_paper_stamp import CODE, KEYS, TEXT
from tests.pages.lines import lines

PUBLIC, STAMP = KEYS, TEXT


async def asked(path: str, keys: PublicKeys = KEYS) -> tuple[int, str]:
    app = web.Application()
    app.add_routes(paper_pages.routes(PaperPages(keys), keys))
    async with TestClient(TestServer(app)) as client, client.get(URL(path, encoded=True)) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("path", ["/kiem-tra", "/en/verify", "/KIEM-TRA"])
async def test_stamp_is_told_with_the_comparison_before_the_sign_that_it_is_right(path: str) -> None:
    status, page = await asked(f"{path}?s={STAMP}")
    text = "\n".join(lines(page))
    assert status == 200
    assert CODE.text in text
    compare, right = ("Compare", "was issued for") if path.startswith("/en") else ("Vui lòng so", "do hệ thống cấp cho")
    assert 0 < text.index(compare) < text.index(CODE.text) < text.index(right)
    assert "noindex" in page


async def test_link_of_a_papers_code_is_verified_as_it_is_scanned() -> None:
    scanned = "".join(stamp_link("https://tra-cuu.example", STAMP))
    assert scanned.startswith("HTTPS://TRA-CUU.EXAMPLE/KIEM-TRA?s=")
    assert CODE.text in (await asked(scanned.removeprefix("HTTPS://TRA-CUU.EXAMPLE")))[1]


@pytest.mark.parametrize(
    "typed",
    ["x", "A" * 3_000, STAMP[:-1], STAMP.replace("0147", "0148"), "%3Cscript%3Ealert(1)%3C/script%3E", "%00%ff%FE"],
)
async def test_whatever_is_no_stamp_of_ours_cannot_be_verified(typed: str) -> None:
    status, page = await asked(f"/kiem-tra?s={typed}")
    assert status == 200
    assert "Không xác thực được" in page
    assert "do hệ thống cấp cho" not in page
    assert "<script" not in page
    assert len(page) < 20_000


async def test_stamp_of_a_key_that_is_not_known_here_cannot_be_verified() -> None:
    only_the_old_one = PublicKeys({1: KEYS.keys[1]})
    assert "Không xác thực được" in (await asked(f"/kiem-tra?s={STAMP}", only_the_old_one))[1]
    assert "Không xác thực được" in (await asked(f"/kiem-tra?s={STAMP}", PublicKeys({})))[1]


async def test_public_keys_are_published_as_the_file_has_them() -> None:
    status, text = await asked(paper_pages.KEYS)
    assert (status, text.encode()) == (200, KEYS.to_json())


def test_file_of_public_keys_that_cannot_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    assert read_keys(None).keys == {}
    for content, said in ((None, "cannot be read"), (b"{", "not written as they should be")):
        path = tmp_path / "keys.json"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=said):
            read_keys(path)


@pytest.mark.servers
async def test_what_is_scanned_from_a_receipt_opens_the_holders_view(house: House) -> None:
    receipt = await house.receive()
    scanned = "".join(link(house.lookup_url, receipt["code"], receipt["lookup_key"]))
    path = scanned[len(house.lookup_url) :]
    assert path.startswith("/G/")
    async with house.http.get(house.lookup_url + path, allow_redirects=False) as response:
        assert response.status == 303
        assert response.headers["Location"] == f"/tra-cuu/{receipt['code']}?key={receipt['lookup_key']}"
        assert response.headers["Cache-Control"] == "no-store"
    async with house.http.get(f"{house.lookup_url}/g/nonsense", allow_redirects=False) as response:
        assert response.status == 400


@pytest.mark.servers
async def test_what_is_pasted_is_told_at_an_address_of_its_own(house: House) -> None:
    receipt = await house.receive()
    url = f"{house.intake_url}/api/v1/dossiers/{receipt['code']}/papers"
    async with house.http.get(url, headers={"Authorization": f"Bearer {house.token}"}) as response:
        (paper,) = (await response.json())["papers"]
    for lang, path in layout.VERIFY.items():
        async with house.http.post(house.lookup_url + path, data={"s": f" {paper['stamp']} "}) as response:
            assert response.url.path == path
            page = await response.text()
        assert receipt["code"] in page
        assert ("Compare" if lang == "en" else "Vui lòng so") in page
