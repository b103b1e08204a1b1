"""What a page costs beside the JSON of the same dossiers: processor time of the lookup's process for each answer.

Each ratio is the JSON's time ÷ the page's, of two runs that follow one another on the same server: 1 is "as fast as
JSON". The interval is of the median of all ratios, as in `gate`; a floor is kept unless all of it lies below the floor.
JSON beside what it cost before is the case `gate`.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import psutil

from loadtests import phones
from loadtests.bench.load import WrkLoad
from loadtests.bench.rig import CaseOutcome, Judged, Rig
from loadtests.bench.servers import BenchServer, ours
from loadtests.system.computed_dossiers import code
from loadtests.system.http_client import Connection

TITLE = "processor time of JSON ÷ that of a page of the same dossiers, gzip, runs of 2 s in turns, 64 connections"

CONNECTIONS = 64
LONGEST_RUN = 2.0
ROUNDS_A_REPEAT = 3
IN_MEMORY = 20_000
PAGE = "/tra-cuu/"
GZIP = ("Accept-Encoding: gzip",)
BROWSER = ("Connection: keep-alive", *(f"{name}: {text}" for name, text in phones.CHROME.items()))
UNKNOWN = "G99.05.02-261231-99999"
FIRST_VIEW_BYTES = 10_000
FIRST_VIEW_AIM = 6_500


@dataclass
class Pair:
    """A page, the JSON it is compared with, and what each round found: (JSON, page), in seconds for each answer."""

    name: str
    json: WrkLoad
    page: WrkLoad
    floor: float
    aim: float
    settings: dict[str, str] = field(default_factory=dict)
    rounds: list[tuple[float, float]] = field(default_factory=list)

    def judged(self) -> Judged:
        """The median ratio and its interval, beside floor and aim."""
        middle, low, high = interval([json / page for json, page in self.rounds])
        figure = f"{middle:.2f} ({low:.2f} – {high:.2f})"
        return Judged("pages", self.name, figure, f"at least {self.floor:.2f}, aim {self.aim:.2f}", high >= self.floor)


def pairs(rig: Rig) -> list[Pair]:
    """What is measured."""
    run = min(LONGEST_RUN, rig.seconds)
    hot = WrkLoad("constant", rig.spare[:1], CONNECTIONS, run)
    held = WrkLoad("random", range(min(IN_MEMORY, rig.dossiers)), CONNECTIONS, run)
    warm = WrkLoad("random", rig.many, CONNECTIONS, run)
    none = replace(hot, address=f"{hot.path}{UNKNOWN}", missing=True)
    off, partner = {"HOSO24_MEMORY_BYTES": "0"}, {"HOSO24_PARTNERS": "127.0.0.1/32"}

    def page(json: WrkLoad, headers: tuple[str, ...] = GZIP) -> WrkLoad:
        return replace(json, path=PAGE, headers=headers)

    browser = replace(hot, headers=BROWSER)
    return [
        Pair("page ÷ JSON, one hot dossier", hot, page(hot), 0.60, 0.75),
        Pair("page ÷ JSON, one hot dossier, all headers of Chrome", browser, page(browser, BROWSER), 0.60, 0.75),
        Pair(f"page ÷ JSON, {len(held.codes):,} dossiers in memory", held, page(held), 0.50, 0.80),
        Pair("page ÷ JSON, out of Redis, process memory off", warm, page(warm), 0.80, 0.90, off),
        Pair("form ÷ JSON of one hot dossier", hot, replace(page(hot), address="/tra-cuu"), 0.80, 0.90),
        Pair(
            "page ÷ JSON, no such dossier (404)",
            none,
            replace(page(none), address=f"{PAGE}{UNKNOWN}"),
            0.80,
            1.0,
            partner,
        ),
    ]


def seconds(rig: Rig) -> float:
    every = pairs(rig)
    filled = sum(len(pair.json.codes) for pair in every)
    return 20 + len(every) * 2 * ROUNDS_A_REPEAT * rig.repeats * (min(LONGEST_RUN, rig.seconds) + 0.5) + filled / 3000


def measure(rig: Rig) -> CaseOutcome:
    broken = 0
    measured = pairs(rig)
    view: list[Judged] = []
    for pair in measured:
        with ours(rig.system, **pair.settings).start() as server:
            view = view or [first_view(server, code(rig.spare.start))]
            broken += _fill(rig, pair, server)
            rig.patience.wait_for_quiet((rig.system.pid, server.pid))
            for turn in range(ROUNDS_A_REPEAT * rig.repeats):
                costs = {}
                for load in (pair.json, pair.page) if turn % 2 else (pair.page, pair.json):
                    costs[load], errors = _cost(rig, server, load.turn(turn))
                    broken += errors
                pair.rounds.append((costs[pair.json], costs[pair.page]))
        json, page = (1e6 * statistics.median(column) for column in zip(*pair.rounds, strict=True))
        rig.say(f"pages, {pair.name}: JSON {json:.1f} µs, page {page:.1f} µs; {pair.judged().figure}")
    return CaseOutcome([], [*(pair.judged() for pair in measured), *view], broken)


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the ends of its interval: of nine ratios the second and the eighth, of fewer the ends."""
    ordered = sorted(ratios)
    around = 1 if len(ordered) >= 9 else 0
    return statistics.median(ordered), ordered[around], ordered[-1 - around]


def first_view(server: BenchServer, shown: str) -> Judged:
    """The bytes of a page, its style sheet and its icon, heads included, for a browser that was never here."""
    asked = dict(line.split(": ", 1) for line in GZIP)
    with Connection(server.url) as connection:
        plain = connection.send("GET", f"{PAGE}{shown}").body.decode()
        links = [plain.split(f'{name}" href="')[1].split('"')[0] for name in ("stylesheet", "image/svg+xml")]
        answers = [connection.send("GET", path, headers=asked) for path in (f"{PAGE}{shown}", *links)]
    size = sum(len(each.body) + _head(each.headers) for each in answers)
    goal = f"at most {FIRST_VIEW_BYTES:,}, aim {FIRST_VIEW_AIM:,}"
    return Judged(
        "pages", "bytes of a first view: page, style sheet, icon", f"{size:,}", goal, size <= FIRST_VIEW_BYTES
    )


def _head(headers: Mapping[str, str]) -> int:
    return len("HTTP/1.1 200 OK\r\n\r\n") + sum(len(f"{name}: {value}\r\n".encode()) for name, value in headers.items())


def _fill(rig: Rig, pair: Pair, server: BenchServer) -> int:
    """Each of the pair's codes asked for once, as a page, so that no JSON of them is finished. Returns the errors."""
    codes = pair.page.codes
    return rig.put(server, replace(pair.page, script="once", seconds=10 + len(codes) / 500)).errors if codes[1:] else 0


def _cost(rig: Rig, server: BenchServer, load: WrkLoad) -> tuple[float, int]:
    """Seconds of processor time for each answer, and the errors."""
    process = psutil.Process(server.pid)
    began = sum(process.cpu_times()[:2])
    figures = rig.put(server, load)
    return (sum(process.cpu_times()[:2]) - began) / max(1, figures.answers), figures.errors
