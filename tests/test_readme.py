"""The documents tell the truth: settings, statuses, the steps of a lookup, commands and links are the code's."""

import re
from pathlib import Path

from click.testing import CliRunner

from hoso24 import cli
from intake.settings import (
    DeskSettings,
    IntakeSettings,
    MaintenanceSettings,
    NotarySettings,
    NoticesSettings,
    RelaySettings,
    WebhooksSettings,
)
from lookup.reading import reader
from lookup.settings import LookupSettings, MigrateSettings
from lookup.status import FIRST, Status
from lookup.web.phrases import status_words
from ops.process_settings import DoctorSettings
from ops.settings import table

ROOT = Path(__file__).parent.parent
SETTINGS = [
    *(LookupSettings, IntakeSettings, RelaySettings, NotarySettings, WebhooksSettings, NoticesSettings, DeskSettings),
    *(MigrateSettings, MaintenanceSettings, DoctorSettings),
]
README = (ROOT / "README.md").read_text("utf-8")
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(path for folder in ("docs", "k8s", "loadtests") for path in sorted((ROOT / folder).rglob("*.md"))),
]
HISTORY = {ROOT / "CHANGELOG.md", ROOT / "DECISIONS.md"}
"""They may name commands there are no more."""


def settings_table() -> str:
    """What has to stand in docs/settings.md; a name that several processes have stands there once."""
    rows: dict[str, tuple[str, str]] = {}
    for name, default, doc in table(SETTINGS):
        rows.setdefault(name, (default, doc))
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {f'`{default}`' if default else '–'} | {doc} |" for name, (default, doc) in rows.items()]
    return "\n".join(lines)


def section(title: str) -> str:
    """The text of README under this heading."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings have, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_document_has_the_marks_of_a_merge_and_no_section_of_the_changelog_stands_twice() -> None:
    for path in DOCUMENTS:
        marks = re.findall(r"^(?:<<<<<<<|=======|>>>>>>>)(?: .*)?$", path.read_text("utf-8"), re.MULTILINE)
        assert not marks, path.name
    unreleased = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n## [Unreleased]\n")[2].partition("\n## ")[0]
    headings = re.findall(r"^### .*$", unreleased, re.MULTILINE)
    assert len(headings) == len(set(headings)) > 1


def test_readme_is_read_at_one_go() -> None:
    assert len(README.splitlines()) <= 180


def test_readme_leads_partners_to_each_of_their_pages() -> None:
    told = section("The API in one minute")
    for path, page in (("sync", "sync"), ("changes", "changes"), ("webhooks", "webhooks")):
        assert re.search(rf"`[A-Z ]*/api/v1/{path}`[^;]*\]\(docs/{page}\.md\)", told)
    assert "](docs/sandbox.md)" in README.partition("\n## ")[0]
    lacks = README.partition("\nIt has no ")[2].partition(".")[0]
    assert lacks
    assert not re.search("feed|webhook|sync", lacks)


def test_settings_table_is_the_code_s() -> None:
    page = (ROOT / "docs" / "settings.md").read_text("utf-8")
    match = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", page, re.DOTALL)
    assert match
    assert match[1] == settings_table()


def test_status_table_is_the_code_s() -> None:
    told = section("The life of a dossier")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| ([^|]+) \| [^|]+ \| ([^|]*)\|$", told, re.MULTILINE)
    assert [
        (int(number), slug, name, {int(n) for n in re.findall(r"\d+", after)}) for number, slug, name, after in rows
    ] == [
        (
            status.value,
            status.slug,
            status_words(status.slug, "vi").name,
            {after.value for after in Status if status.may_become(after)},
        )
        for status in Status
    ]
    assert set(re.findall(r"`(\w+)`", told.rpartition("|\n")[2])) == {status.slug for status in FIRST}


def test_the_steps_of_a_lookup_are_the_reader_s() -> None:
    def steps(text: str) -> dict[str, str]:
        found = re.findall(r"^(\d)\. (.*?)(?=^\d\. |\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        return {number: " ".join(step.replace("**", "").split()) for number, step in found}

    told = steps(section("The life of a lookup"))
    assert list(told) == list("12345678")
    assert steps(reader.__doc__ or "") == told


def test_every_make_target_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def test_every_mentioned_command_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    strange = []
    for path in set(DOCUMENTS) - HISTORY:
        text = path.read_text("utf-8")
        made = set(re.findall(r"`make ([a-z-]+)", text))
        called = set(re.findall(r"`(?:\.venv/bin/)?hoso24 ([a-z]+(?: [a-z]+)?)", text))
        strange += [f"{path.relative_to(ROOT)}: make {target}" for target in made - targets]
        strange += [
            f"{path.relative_to(ROOT)}: hoso24 {words}"
            for words in called
            if CliRunner().invoke(cli, [*words.split(), "--help"]).exit_code
        ]
    assert sorted(strange) == []


def test_links_lead_somewhere() -> None:
    broken = []
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
            place, _, anchor = target.partition("#")
            file = path.parent / place if place else path
            if not file.exists() or (anchor and anchor not in anchors(file)):
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []
