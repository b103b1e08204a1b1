"""What is made of Lighthouse's reports; Lighthouse itself is asked by `make lighthouse` alone."""

from typing import Any

import pytest

from lookup.web.layout import FORMS, SERVICES, STATISTICS
from tests.pages import lighthouse
from tests.pages.lighthouse import GRADES, WITH_SEO, Graded, grade, medians, pages, short

SAMPLES = [
    {"code": f"G99.01.01-261109-000{n}", "key": f"0-KEY{n}", "status": status}
    for n, status in enumerate(("processing", "supplement_required", "returned"))
]


def report(**scores: float) -> dict[str, Any]:
    """Each category with one audit that counts and one that does not."""
    categories = {
        name: {"score": score, "auditRefs": [{"id": f"its-{name}", "weight": 1}, {"id": "idle", "weight": 0}]}
        for name, score in scores.items()
    }
    audits = {f"its-{name}": {"id": f"its-{name}", "title": name, "score": score} for name, score in scores.items()}
    return {"categories": categories, "audits": audits | {"idle": {"id": "idle", "title": "idle", "score": 0}}}


def test_every_kind_of_page_is_graded_in_both_languages_and_what_is_to_be_found_for_seo_too() -> None:
    found = pages({"lookup": "http://127.0.0.1:8080", "samples": SAMPLES}, "S.001")
    assert len({page.name for page in found}) == len(found) == 16
    for lang, form in FORMS.items():
        for_seo = {page.url for page in found if page.name.endswith(lang) and page.grades == WITH_SEO}
        paths = (form, SERVICES[lang], f"{SERVICES[lang]}/S.001", STATISTICS[lang])
        assert for_seo == {f"http://127.0.0.1:8080{path}" for path in paths}
        dossiers = [page for page in found if page.url.startswith(f"http://127.0.0.1:8080{form}/")]
        assert {page.grades for page in dossiers} == {GRADES}
        keys = [dict(page.headers) for page in dossiers if page.headers]
        assert keys == [{"Cookie": "hoso24-key=0-KEY0"}, {"Cookie": "hoso24-key=0-KEY1"}]


def test_grade_is_the_median_and_one_that_could_not_be_given_is_none() -> None:
    reports = [report(seo=each) for each in (1.0, 0.92, 0.99)]
    assert medians(reports, ["seo"]) == {"seo": 99}
    assert medians([report(seo=None)], ["seo"]) == {"seo": 0}  # type: ignore[arg-type]


def test_what_took_points_off_is_named_and_what_does_not_count_is_not() -> None:
    assert short(report(seo=0.92, performance=1.0), ["performance", "seo"]) == ["seo (its-seo)"]


@pytest.mark.parametrize(("seo", "below"), [(1.0, 0), (0.99, 1)])
def test_page_below_a_hundred_is_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seo: float, below: int
) -> None:
    monkeypatch.setattr(lighthouse, "graded", lambda *_: report(seo=seo))
    assert grade([Graded("form", "http://127.0.0.1:8080/tra-cuu", ("seo",))], 3, "http://127.0.0.1:1") == below
    said = capsys.readouterr().out
    assert ("seo (its-seo)" in said) is bool(below)
    assert said.endswith("as promised.\n" if not below else "1 below 100.\n")
