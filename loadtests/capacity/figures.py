"""Everything the page is made of, read from where it is kept. What has not been measured yet is None or absent."""

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import yaml

from loadtests.bench.servers import ROOT
from loadtests.capacity.handshakes import Handshakes
from loadtests.national import findings
from loadtests.national.findings import Step

HERE = Path(__file__).resolve().parent
BENCH = Path("loadtests/bench/RESULTS.md")
NATIONAL = Path("loadtests/national/measured.json")
HANDSHAKES = Path("loadtests/capacity/handshakes.json")
GAME_DAY = Path("loadtests/capacity/gameday.json")
ASSUMPTIONS = Path("loadtests/capacity/assumptions.toml")
SLO = Path("k8s/components/monitoring/slo.toml")


class Year(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An ordinary year."""

    dossiers: int
    lookups_each: float
    busy_days: int
    busy_share: float
    peak_hour_share: float
    peak_minute: float


class Rush(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hour to survive."""

    people: int
    hours: float
    rounded_to: int
    tenfold: int


class Edge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway."""

    handshakes_each: float
    cores: int


class Disk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reader's volume."""

    reads_per_second: int


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a fault comes; `notice`: seconds until somebody or something begins to act."""

    name: str
    per_year: float
    notice: float
    why: str


class Assumptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of `assumptions.toml`."""

    year: Year
    rush: Rush
    edge: Edge
    disk: Disk
    full: dict[str, float]
    no_faults: list[str]
    fault: list[Fault]


class Production(msgspec.Struct, frozen=True):
    """What there is of everything: cores, processes and bytes, as the manifests have it."""

    lookups_least: int
    lookups_most: int
    readers: int
    postgres_cores: int
    postgres_memory: int
    postgres_disk: int
    redis_memory: int


class GameDay(msgspec.Struct, frozen=True):
    """The last full game day, as its `report.json` says (loadtests/gameday). `rate`: lookups a second."""

    date: str
    commit: str
    kind: str
    rate: float
    faults: list["Seen"]


class Seen(msgspec.Struct, frozen=True):
    """One fault of a game day. `skipped`: why it was not made; `seconds`: from the fault until all was settled.

    `failed`, of `lookups` asked meanwhile, got no answer or a wrong one; `write_gap`: the longest time, in seconds, in
    which no change was acknowledged, None if none was tried.
    """

    name: str
    kept: bool
    skipped: str
    seconds: float
    lookups: int
    failed: int
    write_gap: float | None


class Answers(msgspec.Struct, frozen=True):
    """What one server did in the bench: answers a second, with this share of its core busy."""

    rate: float
    busy: float

    @property
    def each(self) -> float:
        """Seconds of processor time for one answer."""
        return self.busy / self.rate


class Figures(msgspec.Struct, frozen=True):
    """All of it. `bench`: by case, server and connections."""

    bench: dict[tuple[str, str, int], Answers]
    bench_conditions: str
    step: Step | None
    handshakes: Handshakes | None
    game_day: GameDay | None
    assumed: Assumptions
    production: Production
    promised: dict[str, float]


def read(root: Path = ROOT) -> Figures:
    """Everything below `root`. Raises msgspec.ValidationError, or ValueError for a page that is not the bench's."""
    bench = (root / BENCH).read_text("utf-8")
    steps = [step for step in findings.read(root / NATIONAL) if step.runs]
    return Figures(
        bench=_measured(bench),
        bench_conditions=_condition(bench, "date"),
        step=steps[-1] if steps else None,
        handshakes=_json(root / HANDSHAKES, Handshakes),
        game_day=_json(root / GAME_DAY, GameDay),
        assumed=msgspec.convert(_toml(root / ASSUMPTIONS), Assumptions),
        production=_production(root),
        promised={slo["name"]: slo["objective"] for slo in _toml(root / SLO)["slo"]},
    )


def _json(path: Path, kind: Any) -> Any:
    return msgspec.json.decode(path.read_bytes(), type=kind) if path.exists() else None


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def _measured(page: str) -> dict[tuple[str, str, int], Answers]:
    """The bench's table of what was measured, by case, server and connections."""
    found = {}
    for line in page.partition("## Measured")[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 7 and cells[2].replace(",", "").isdigit():
            busy = float(cells[7].partition("%")[0]) / 100
            found[cells[0], cells[1], _count(cells[2])] = Answers(_count(cells[3]), busy)
    if not found:
        raise ValueError(f"{BENCH} has no table of what was measured.")
    return found


def _count(cell: str) -> int:
    return int(cell.replace(",", ""))


def _condition(page: str, name: str) -> str:
    found = re.search(rf"^- {name}: (.*)$", page, re.MULTILINE)
    return found[1] if found else "of an unknown date"


def _production(root: Path) -> Production:
    capacity = yaml.safe_load((root / "k8s/overlays/production/capacity.yaml").read_text("utf-8"))
    replicas = {each["path"].rpartition("/")[2]: each["value"] for each in capacity}
    cluster = yaml.safe_load((root / "k8s/components/postgres/cluster.yaml").read_text("utf-8"))["spec"]
    valkey = (root / "k8s/components/redis-sentinel/valkey.conf").read_text("utf-8")
    memory = re.search(r"^maxmemory (\S+)$", valkey, re.MULTILINE)
    assert memory is not None
    return Production(
        lookups_least=replicas["minReplicas"],
        lookups_most=replicas["maxReplicas"],
        readers=cluster["instances"] - 1,
        postgres_cores=int(cluster["resources"]["requests"]["cpu"]),
        postgres_memory=_bytes(cluster["resources"]["limits"]["memory"]),
        postgres_disk=_bytes(cluster["storage"]["size"]),
        redis_memory=_bytes(memory[1]),
    )


UNITS = {"Gi": 2**30, "Mi": 2**20, "gb": 2**30, "mb": 2**20}


def _bytes(size: str) -> int:
    return int(size[:-2]) * UNITS[size[-2:]]
