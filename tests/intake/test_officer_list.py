"""The officers' list: what a file may say, what it is refused for, and what loading it does."""

from importlib import resources
from typing import Any

import asyncpg
import pytest

from intake import clients
from intake.desk import officer_list
from intake.desk.officer_list import ListRefused, Loaded
from intake.desk.officers import Officer
from lookup.catalogue import Catalogue, load
from tests.conftest import Database
from tests.desk import browser_at, desk_running, desk_settings, new_link, use_link

ISSUER = "https://id.example"
HEAD = "issuer,subject,name,agency,roles\n"
BINH = "https://id.example,binh,Trần Văn Bình (hư cấu),G99.01.01,counter specialist\n"
LAN = "https://id.example,lan,Phạm Thị Lan (hư cấu),G99.01,head\n"


@pytest.fixture
async def catalogue(owner: Any) -> Catalogue:
    return (await load.stored(owner))[0]


def test_one_file_in_every_dress_is_the_same_list(catalogue: Catalogue) -> None:
    plain = HEAD + BINH + LAN
    wanted = [
        Officer(
            "https://id.example", "binh", "Trần Văn Bình (hư cấu)", "G99.01.01", frozenset({"counter", "specialist"})
        ),
        Officer(ISSUER, "lan", "Phạm Thị Lan (hư cấu)", "G99.01", frozenset({"head"})),
    ]
    turned = "roles;agency;name;subject;issuer\n" + "\n".join(
        ";".join(reversed(line.split(","))) for line in (BINH + LAN).splitlines()
    )
    for content in (
        plain.encode(),
        plain.encode("utf-8-sig"),
        plain.replace("\n", "\r\n").encode(),
        plain.replace("counter specialist", "counter|specialist").encode(),
        turned.encode(),
    ):
        assert officer_list.read(content, catalogue) == wanted


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "The first line has to name the columns"),
        (b"subject,name\na,b\n", "The first line has to name the columns"),
        ((HEAD + BINH).encode("utf-16"), "not in UTF-8"),
        (HEAD.encode(), "names no officer"),
        ((HEAD + BINH + BINH).encode(), "line 3: binh of https://id.example is in line 2 already"),
        ((HEAD + BINH.replace("G99.01.01", "G1")).encode(), "line 2: agency: there is no agency G1"),
        ((HEAD + BINH.replace("counter specialist", "boss")).encode(), "line 2: roles: expected some of counter"),
        ((HEAD + BINH.replace("counter specialist", "")).encode(), "line 2: roles:"),
        ((HEAD + BINH.replace("Trần", "\u202eTrần")).encode(), "line 2: name: it contains the character U+202E"),
        ((HEAD + BINH.replace("Trần Văn Bình (hư cấu)", " ")).encode(), "line 2: name: it is blank"),
        ((HEAD + BINH.replace("Trần", "T" * 300)).encode(), "line 2: name: it has 3"),
        ((HEAD + BINH.replace(",binh,", ",bi|nh,")).encode(), "cannot contain |"),
        ((HEAD + "a,b\n" + LAN).encode(), "line 2: it has to have 5 fields"),
        ((HEAD + BINH.strip() + ",more\n").encode(), "line 2: it has to have 5 fields"),
        ((HEAD + 'a,"b\n').encode(), "line"),
    ],
)
async def test_a_wrong_line_is_named_and_nothing_is_loaded(catalogue: Catalogue, content: bytes, says: str) -> None:
    with pytest.raises(ListRefused, match=says.replace("|", r"\|").replace("+", r"\+")):
        officer_list.read(content, catalogue)


def test_a_hundred_wrong_lines_are_a_bounded_message(catalogue: Catalogue) -> None:
    with pytest.raises(ListRefused) as refused:
        officer_list.read((HEAD + "a,b,c,d,e\n" * 100).encode(), catalogue)
    assert str(refused.value).count("\n") == 20
    assert str(refused.value).endswith("and 80 lines more")


async def test_who_is_not_listed_any_more_is_disabled_and_comes_back(owner: Any, catalogue: Catalogue) -> None:
    both, one = (officer_list.read((HEAD + text).encode(), catalogue) for text in (BINH + LAN, LAN))
    elsewhere = officer_list.read((HEAD + "local,binh,Khác (hư cấu),G99,auditor\n").encode(), catalogue)
    assert await officer_list.load(owner, both) == Loaded(2, 0, 0)
    assert await officer_list.load(owner, both) == Loaded(0, 0, 0)
    assert await officer_list.load(owner, elsewhere) == Loaded(1, 0, 0)
    assert await officer_list.load(owner, one) == Loaded(0, 0, 1)
    assert await officer_list.load(owner, both) == Loaded(0, 1, 0)
    assert await owner.fetchval("SELECT count(*) FROM officer WHERE disabled_at IS NOT NULL") == 0
    client = await owner.fetchrow("SELECT id, agency, actions FROM client")
    assert tuple(client) == ("desk", "G99", ["read"])


async def test_a_loaded_officer_signs_in_until_the_list_lacks_him(
    database: Database, owner: Any, catalogue: Catalogue
) -> None:
    content = resources.files("intake.desk").joinpath("sample", "officers.csv").read_bytes()
    listed = officer_list.read(content, catalogue)
    await officer_list.load(owner, listed)
    async with desk_running(desk_settings(database)) as desk, browser_at(f"http://127.0.0.1:{desk.port}") as browser:
        assert "Trần Văn Bình (hư cấu)" in (await use_link(browser, await new_link(database))).words
        await officer_list.load(owner, [each for each in listed if each.subject != "binh"])
        assert (await browser.get("/quay")).url.path == "/dang-nhap"


@pytest.mark.parametrize("name", sorted(clients.OUR_OWN))
async def test_no_client_takes_the_name_of_a_source_of_ours(owner: Any, catalogue: Catalogue, name: str) -> None:
    with pytest.raises(clients.ClientRefused):
        await clients.add_client(owner, name, "x", "G99", ("read",))
    await officer_list.load(owner, officer_list.read((HEAD + LAN).encode(), catalogue))
    with pytest.raises(clients.ClientRefused):
        await clients.add_token(owner, name)


async def test_the_desk_cannot_change_who_its_officers_are(database: Database) -> None:
    connection = await asyncpg.connect(database.desk_url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE officer SET roles = '{head}'")
    finally:
        await connection.close()
