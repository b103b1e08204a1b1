"""What a citizen reads: each page of each situation, line by line, against the table that says what is right."""

import pytest

from lookup.status import Status
from tests.lookup.offline import CATALOGUE
from tests.pages.lines import lines, strange
from tests.pages.situations import AGES, READINGS, TABLE, Reading, Situation, situations, words_of_sheet

every_situation = pytest.mark.parametrize("situation", situations(), ids=lambda situation: situation.name)
every_reading = pytest.mark.parametrize("reading", READINGS, ids="-".join)


@every_reading
@every_situation
def test_page_says_what_the_table_says(situation: Situation, reading: Reading) -> None:
    says, said = "\n".join(lines(situation.html[reading])), "\n".join(situation.page(reading))
    assert says == said, (
        "If the page changed on purpose, write it into tests/pages/situations.toml (python -m tests.pages)"
    )


@every_situation
def test_nothing_of_the_holders_is_in_anyones_html(situation: Situation) -> None:
    """Not even where no reader meets it: in an attribute, a comment, a field that is not shown."""
    for reading, html in situation.html.items():
        shown = {secret for secret in secrets_of(situation) - {typed(situation)} if secret in html}
        assert bool(shown) is (reading.viewer == "holder"), shown


@every_situation
def test_english_page_says_of_each_vietnamese_text_that_it_is_one(situation: Situation) -> None:
    """So that it is read aloud as one, and that no other has come into the page by mistake."""
    for reading, html in situation.html.items():
        if reading.lang == "en":
            title, *others = strange(html)
            assert title.endswith(" · Hồ sơ 24")  # a title has no language of its own
            assert others == []


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize(
    ("lang", "path", "label", "heading", "mistake", "below"),
    [
        (
            "vi",
            "/tra-cuu/G99.01.01-261109-0007",
            "Mã tra cứu",
            "Vui lòng kiểm tra lại",
            "Lỗi: Mã tra cứu có 15 chữ và số; nội dung vừa nhập có 8.",
            "Tình trạng chung của hồ sơ vẫn xem được ở dưới.",
        ),
        (
            "en",
            "/en/status/G99.01.01-261109-0007",
            "Access key (mã tra cứu)",
            "There is a problem",
            "Error: An access key has 15 letters and digits; you entered 8.",
            "The general status is shown below.",
        ),
    ],
)
async def test_page_after_a_mistyped_key_is_anyones_with_the_mistake_told_first(
    lang: str, path: str, label: str, heading: str, mistake: str, below: str, age: str
) -> None:
    situation = situations()[0]
    response = await situation.lookup(age).ask(path, method="POST", body=b"key=mistyped")
    expected = situation.page(Reading(lang, "anyone", age))
    expected[1] = f"title: {mistake} · Hồ sơ 24"
    expected.insert(expected.index(label) + 2, mistake)
    told = [f"## {heading}", f"[{mistake.partition(': ')[2]}](#key)", below]
    expected[5:5] = told
    assert response.status == 400
    assert lines(response.text or "") == expected


def test_table_has_every_status_in_it() -> None:
    assert {situation.status for situation in situations()} == set(Status)


def test_situations_have_names_of_their_own() -> None:
    names = [situation.name for situation in situations()]
    assert len(names) == len(set(names))


@every_reading
def test_every_value_of_the_table_is_for_some_line(reading: Reading) -> None:
    """A word spelt otherwise than the sheet does would change nothing, and be noticed by nothing else."""
    useful = words_of_sheet(reading.lang) | set(TABLE["status"]) | set(TABLE["words"][reading.lang])
    useful |= {"song_may", "hour", "day", "tag", "n", "n_days"}
    for situation in situations():
        assert situation.values(reading).keys() - useful == set(), situation.name


def typed(situation: Situation) -> str:
    """The number it was asked for by, which is no secret from who typed it."""
    return (situation.asked_as or "").replace("-", "/")


def secrets_of(situation: Situation) -> set[str]:
    """What only the holder may read: the names of services, agencies and departments, work, notes, official number."""
    record = situation.record
    agencies = {record.agency, record.origin or record.agency, *(step.agency for step in record.timeline)}
    views = [CATALOGUE.service_view(record.service), *map(CATALOGUE.agency_view, agencies)]
    found = {name for view in views for name in (view.name, view.name_en)}
    found |= {text for step in record.timeline for text in (step.department, step.work)}
    found |= {record.service, record.official_number, record.action_needed, record.reason}
    return {secret for secret in found if secret}
