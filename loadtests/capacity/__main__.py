"""Writes docs/capacity.md; with `--check`, only says whether it is up to date.

`--handshakes` measures what a TLS handshake costs here before that. `--gameday FOLDER` takes the figures of a game day
over from the folder that it wrote its report to.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from loadtests.bench.servers import ROOT
from loadtests.capacity import figures, handshakes
from loadtests.capacity.figures import GAME_DAY, HANDSHAKES, GameDay
from loadtests.capacity.page import page
from loadtests.national import findings, results
from loadtests.system.processes import CannotMeasure

PAGE = Path("docs/capacity.md")
NATIONAL = Path("loadtests/national/RESULTS.md")
REPORT, FULL = "report.json", "full"


def made(root: Path = ROOT) -> dict[Path, str]:
    """Every page that is made of figures kept here, by its path from the root."""
    pages = {PAGE: page(figures.read(root))}
    if steps := findings.read(root / figures.NATIONAL):
        pages[NATIONAL] = results.text(steps)
    return pages


def outdated(root: Path = ROOT) -> list[Path]:
    """The pages that are not what would be made now."""
    return [path for path, text in made(root).items() if not _is(root / path, text)]


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def take_over(folder: Path, root: Path = ROOT) -> None:
    """Keep a full game day's figures. Raises CannotMeasure if they are not there, or not of a full one."""
    try:
        day = msgspec.json.decode((folder / REPORT).read_bytes(), type=GameDay)
    except (OSError, msgspec.DecodeError) as error:
        raise CannotMeasure(f"{folder / REPORT} is not the report of a game day: {error}") from None
    if day.kind != FULL:
        raise CannotMeasure(f"{folder / REPORT} is of a {day.kind} game day, which leaves faults out.")
    (root / GAME_DAY).write_bytes(msgspec.json.format(msgspec.json.encode(day), indent=1) + b"\n")


def main() -> None:
    """The command line. Exit status 1 if a page is out of date, 2 if something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a page is out of date")
    parser.add_argument("--handshakes", action="store_true", help="measure TLS handshakes first (seconds; openssl)")
    parser.add_argument("--gameday", type=Path, metavar="FOLDER", help="take over the figures of this game day")
    options = parser.parse_args()
    if options.check:
        if stale := outdated():
            print("Out of date, run `make capacity-page`: " + ", ".join(map(str, stale)), file=sys.stderr)
            sys.exit(1)
        return
    try:
        if options.handshakes:
            found = msgspec.json.encode(handshakes.measure())
            (ROOT / HANDSHAKES).write_bytes(msgspec.json.format(found, indent=1) + b"\n")
        if options.gameday:
            take_over(options.gameday)
    except CannotMeasure as why:
        print(why, file=sys.stderr)
        sys.exit(2)
    for path, text in made().items():
        (ROOT / path).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
