"""The model of capacity and availability: its arithmetic, and that it works with what production has."""

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from loadtests.bench.cases import pages
from loadtests.capacity import CapacityModel, PageCost, PathPart, Room, YearlyFault, allowed
from loadtests.gameday.faults import FAULTS

ROOT = Path(__file__).parent.parent
MODEL = CapacityModel.read()
UNITS = {"Gi": 2**30, "gb": 2**30}


def manifest(path: str) -> Any:
    return yaml.safe_load((ROOT / "k8s" / path).read_text("utf-8"))


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def test_what_production_has_is_what_the_manifests_say() -> None:
    replicas = {
        each["path"].rpartition("/")[2]: each["value"] for each in manifest("overlays/production/capacity.yaml")
    }
    cluster = manifest("components/postgres/cluster.yaml")["spec"]
    valkey = (ROOT / "k8s/components/redis-sentinel/valkey.conf").read_text("utf-8")
    memory = re.search(r"^maxmemory (\S+)$", valkey, re.MULTILINE)
    assert memory is not None
    there = {part.name: part.there for part in MODEL.parts}
    readers = cluster["instances"] - 1
    assert there["lookup processes"] == replicas["maxReplicas"]
    assert there["Postgres, processor"] == readers * int(cluster["resources"]["requests"]["cpu"])
    assert MODEL.room.disk_there == size(cluster["storage"]["size"])
    assert MODEL.room.memory_there == size(cluster["resources"]["limits"]["memory"])
    assert MODEL.room.redis_there == size(memory[1])


def test_lookups_a_second_follow_from_dossiers_and_people() -> None:
    assert MODEL.rush.peak == 23_900
    assert MODEL.year.a_day == pytest.approx(2_060_640)
    assert MODEL.year.peak == pytest.approx(2_060_640 * 0.15 / 3600 * 3)


def test_a_part_carries_what_there_is_and_is_no_fuller_than_it_may_be() -> None:
    part = PathPart("Postgres, processor", "core", each=60e-6, there=8, full=0.6)
    assert part.carries == pytest.approx(8 / 60e-6)
    assert part.needs(23_900) == pytest.approx(23_900 * 60e-6 / 0.6)
    carries = [each.carries for each in MODEL.parts]
    assert carries == sorted(carries), "the first to give way is in front"


def test_page_takes_as_much_more_of_a_core_wherever_its_record_comes_from() -> None:
    part = PathPart("lookup", "core", each=200e-6, there=16, full=0.6)
    page = PageCost("lookup", json=100e-6, ratio=0.8).as_pages(part)
    assert (page.name, page.there, page.full) == ("lookup, pages", 16, 0.6)
    assert page.each == pytest.approx(225e-6)
    of_pages = [each for each in MODEL.parts if each.name.endswith(", pages")]
    assert [each.name for each in of_pages] == ["lookup processes, pages"]


def test_page_is_no_dearer_than_its_case_of_the_bench_accepts() -> None:
    told = tomllib.loads((ROOT / "loadtests/capacity.toml").read_text("utf-8"))
    rig: Any = SimpleNamespace(seconds=2.0, spare=range(10), many=range(10), dossiers=100)
    (floor,) = (pair.floor for pair in pages.pairs(rig) if "out of Redis, process memory off" in pair.name)
    assert floor <= told["page"]["ratio"] <= 1.1


def test_room_lasts_until_it_is_full() -> None:
    room = Room(1000, 500, 100, 600, disk_there=4_000_000, memory_there=1, redis_there=6_000_000)
    assert room.years_on_disk(2000) == 2
    assert room.seconds_to_fill_redis(100) == 100


def test_minutes_a_year_are_frequency_times_length_times_share() -> None:
    fault = YearlyFault("both-gone", 0.1, 900, "", seconds=100, lookups=100, failed=50, write_gap=30)
    assert fault.lookups_away == pytest.approx(0.1 * (900 + 100) / 2 / 60)
    assert fault.changes_away == pytest.approx(0.1 * (900 + 30) / 60)
    assert allowed(0.9995) == pytest.approx(262.8)


def test_every_fault_of_the_game_day_has_a_frequency() -> None:
    assert [fault.name for fault in MODEL.faults] == [
        fault.name for fault in FAULTS if fault.name not in {"healthy", "walked", "day-curve"}
    ]
