"""README tells the truth: its settings table is the code's, its diagram the table of moves, its verbs exist."""

import re
from pathlib import Path

from click.testing import CliRunner

from hoso24 import cli
from intake.settings import IntakeSettings, MaintenanceSettings, RelaySettings
from lookup.settings import LookupSettings, MigrateSettings
from lookup.status import FIRST, MOVES, Status
from ops.settings import table

ROOT = Path(__file__).parent.parent
SETTINGS = [LookupSettings, IntakeSettings, RelaySettings, MigrateSettings, MaintenanceSettings]
README = (ROOT / "README.md").read_text("utf-8")


def settings_table() -> str:
    """What has to stand in README; a name that several processes have stands there once."""
    rows: dict[str, tuple[str, str]] = {}
    for name, default, doc in table(SETTINGS):
        rows.setdefault(name, (default, doc))
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {f'`{default}`' if default else '–'} | {doc} |" for name, (default, doc) in rows.items()]
    return "\n".join(lines)


def test_settings_table_is_the_code_s() -> None:
    match = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", README, re.DOTALL)
    assert match
    assert match[1] == settings_table()


def test_status_diagram_is_the_table_of_moves() -> None:
    arrows = re.findall(r"^ {4}(\S+) --> (\S+?)(?::.*)?$", README, re.MULTILINE)
    by_slug = {status.slug: status for status in Status}
    drawn = {(by_slug[a], by_slug[b]) for a, b in arrows if "[*]" not in (a, b)}
    assert drawn == {(before, after) for before, nexts in MOVES.items() for after in nexts}
    assert {b for a, b in arrows if a == "[*]"} == {status.slug for status in FIRST}
    assert {a for a, b in arrows if b == "[*]"} == {status.slug for status in Status if status.final}


def test_every_make_target_has_a_line_of_help_and_every_mentioned_one_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    documented = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony[1].split()) == documented
    assert set(re.findall(r"`make ([a-z-]+)`", README)) <= documented


def test_every_mentioned_sub_command_exists() -> None:
    for words in set(re.findall(r"`hoso24 ([a-z]+(?: [a-z]+)?)", README)):
        result = CliRunner().invoke(cli, [*words.split(), "--help"])
        assert result.exit_code == 0, words


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README):
        assert (ROOT / target).exists(), target
