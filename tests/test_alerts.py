"""What fires when: every alert against the days on which it has to, and the days on which no alert may fire.

promtool evaluates the real rules over series that are made here: a healthy day, a quiet night, and each fault.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.monitoring import rules
from ops.monitoring.objectives import alerts, objectives
from tests.programs import program

GROUPS = [group for group in rules.groups(objectives(), alerts()) if group["name"] != "slo-budgets"]
"""Without what is left of the budgets of thirty days, which no alert looks at."""
ALERTS = {rule["alert"] for group in GROUPS for rule in group["rules"] if "alert" in rule}
FIRING = 'count by (alertname, severity) (ALERTS{alertstate="firing"})'

DAY = 24 * 60
NINETY_DAYS = 90 * 86400

Series = dict[str, str]


STRIDE = 5
"""Minutes between two looks at a long day; at a short one it is a minute."""


def level(*parts: tuple[int, float], every: int = 1) -> str:
    """A gauge that stays for so many minutes at each value, told in steps of `every` minutes."""
    return " ".join(f"{value:g}x{minutes // every - 1}" for minutes, value in parts)


def count(*parts: tuple[int, float], every: int = 1) -> str:
    """A counter that grows for so many minutes by so much a minute, told in steps of `every` minutes."""
    notes, at = [], 0.0
    for minutes, a_minute in parts:
        notes.append(f"{at:.10g}+{a_minute * every:g}x{minutes // every - 1}")
        at += a_minute * minutes
    return " ".join(notes)


def gone(minutes: int, value: float, missing: int) -> str:
    """A gauge that disappears."""
    return f"{value:g}x{minutes - 1} _x{missing - 1}"


LOOKUPS = ("lookup-1", "lookup-2")
ROUTE = 'route="/api/v1/dossiers/{code}"'


def requests(service: str, status: int, instance: str) -> str:
    return f'hoso24_http_requests_total{{service="{service}",{ROUTE},status="{status}",instance="{instance}"}}'


def timed(instance: str, le: str = "") -> str:
    labels = f'service="lookup",{ROUTE},instance="{instance}"'
    what = f'bucket{{{labels},le="{le}"}}' if le else f"count{{{labels}}}"
    return f"hoso24_http_request_seconds_{what}"


def breaker(dependency: str, instance: str) -> str:
    return f'hoso24_breaker_open{{dependency="{dependency}",instance="{instance}"}}'


def answers(outcome: str, instance: str) -> str:
    return f'lookup_answers_total{{source="redis",outcome="{outcome}",instance="{instance}"}}'


def slices(verdict: str, instance: str) -> str:
    return f'lookup_freshness_slices_total{{verdict="{verdict}",instance="{instance}"}}'


def unavailable(dependency: str, reason: str) -> str:
    return f'hoso24_dependency_unavailable_total{{dependency="{dependency}",reason="{reason}",instance="{LOOKUPS[0]}"}}'


PROBE = 'probe_success{job="hoso24-edge"}'
CERTIFICATE = 'probe_ssl_earliest_cert_expiry{job="hoso24-edge"}'
INTAKE = 'hoso24_http_in_flight{service="intake",instance="intake-1"}'
LEADER, SECOND = 'relay_leader{instance="relay-1"}', 'relay_leader{instance="relay-2"}'
HALTED = 'relay_halted{instance="relay-1"}'
BACKLOG = 'relay_backlog_seconds{instance="relay-1"}'
WRITER = 'relay_oldest_writer_seconds{instance="relay-1"}'
LAG = 'lookup_standby_lag_seconds{dependency="postgres-2",instance="lookup-1"}'
DROPPED = 'hoso24_log_lines_dropped_total{instance="lookup-1"}'
CUT = 'hoso24_connections_cut_total{service="lookup",reason="silent",instance="lookup-1"}'
UNREADABLE = 'lookup_unreadable_entries_total{instance="lookup-1"}'
UNKNOWN = 'intake_outcomes_unknown_total{instance="intake-1"}'


def of_lookup(name: str, instance: str) -> str:
    return f'{name}{{instance="{instance}"}}'


def healthy(minutes: int, every: int = 1) -> Series:
    """Two lookups at a hundred lookups a second each, an intake at ten, two relays; a few errors, as always."""
    series = {
        requests("intake", 200, "intake-1"): count((minutes, 600), every=every),
        requests("intake", 409, "intake-1"): count((minutes, 5), every=every),
        requests("intake", 503, "intake-1"): count((minutes, 0), every=every),
        PROBE: level((minutes, 1), every=every),
        CERTIFICATE: level((minutes, NINETY_DAYS), every=every),
        INTAKE: level((minutes, 2), every=every),
        LEADER: level((minutes, 1), every=every),
        SECOND: level((minutes, 0), every=every),
        HALTED: level((minutes, 0), every=every),
        BACKLOG: level((minutes, 0.03), every=every),
        WRITER: level((minutes, 0.05), every=every),
        LAG: level((minutes, 0.7), every=every),
        DROPPED: count((minutes, 0), every=every),
        CUT: count((minutes, 0), every=every),
        UNREADABLE: count((minutes, 0), every=every),
        UNKNOWN: count((minutes, 0), every=every),
        unavailable("redis", "TimeoutError"): count((minutes, 0.1), every=every),
        unavailable("redis", "Refused"): count((minutes, 0), every=every),
    }
    for instance in LOOKUPS:
        series |= {
            requests("lookup", 200, instance): count((minutes, 6000), every=every),
            requests("lookup", 404, instance): count((minutes, 60), every=every),
            requests("lookup", 429, instance): count((minutes, 30), every=every),
            requests("lookup", 503, instance): count((minutes, 0.5), every=every),
            timed(instance): count((minutes, 6060), every=every),
            timed(instance, "0.1"): count((minutes, 6050), every=every),
            answers("found", instance): count((minutes, 6000), every=every),
            answers("stale", instance): count((minutes, 0), every=every),
            slices("fresh", instance): count((minutes, 5.99), every=every),
            slices("late", instance): count((minutes, 0.01), every=every),
            of_lookup("lookup_epoch", instance): level((minutes, 1), every=every),
            of_lookup("hoso24_loop_lag_seconds", instance): level((minutes, 0.02), every=every),
            of_lookup("lookup_shedding_level", instance): level((minutes, 0), every=every),
            of_lookup("lookup_limited_total", instance): count((minutes, 30), every=every),
            f'lookup_distrusts_total{{reason="gap",instance="{instance}"}}': count((minutes, 0.01), every=every),
            **{
                breaker(name, instance): level((minutes, 0), every=every)
                for name in ("redis", "postgres-1", "postgres-2")
            },
        }
    return series


def each_lookup(name: str, notation: str) -> Series:
    return {of_lookup(name, instance): notation for instance in LOOKUPS}


def both(make: Any, *arguments: str, notation: str) -> Series:
    return {make(*arguments, instance): notation for instance in LOOKUPS}


@dataclass(frozen=True)
class Day:
    """So many minutes, what is not as on a healthy day, and who is woken at its end: alert → severity."""

    name: str
    minutes: int
    changes: Mapping[str, str] = field(default_factory=dict)
    firing: Mapping[str, str] = field(default_factory=dict)
    stride: int = 1
    only: Mapping[str, str] | None = None
    """Instead of a healthy day's series."""

    @property
    def series(self) -> Series:
        series = dict(self.only) if self.only is not None else healthy(self.minutes, self.stride)
        return series | dict(self.changes)


HOUR = 60
QUIET_NIGHT = {
    requests("lookup", 200, "lookup-1"): count((10 * HOUR, 0.5), every=STRIDE),
    requests("lookup", 500, "lookup-1"): "0x60 1x60",
    timed("lookup-1"): count((10 * HOUR, 0.5), every=STRIDE),
    timed("lookup-1", "0.1"): count((9 * HOUR, 0.5), (HOUR, 0.4), every=STRIDE),
}

DAYS = [
    Day("a healthy day", DAY, stride=STRIDE),
    Day("a quiet night with one failure", 10 * HOUR, QUIET_NIGHT, stride=STRIDE),
    Day(
        "one lookup of two killed, and another in its place",
        30,
        {
            requests("lookup", 200, "lookup-2"): gone(20, 100, 10),
            of_lookup("lookup_epoch", "lookup-2"): gone(20, 1, 10),
        },
    ),
    Day("Redis promoted within half a minute", 20, both(breaker, "redis", notation="0x15 1 0x3")),
    Day("the relay's leader stopped, another leads", 20, {LEADER: level((10, 1), (10, 0)), SECOND: "0x10 1x8"}),
    Day("a standby restarted", 20, {breaker("postgres-2", "lookup-1"): level((15, 0), (3, 1), (2, 0))}),
    Day(
        "Redis away",
        30,
        {**both(breaker, "redis", notation=level((20, 0), (10, 1))), BACKLOG: level((20, 0), (10, 300))},
        {"RedisAway": "page", "DeliveryLate": "page"},
    ),
    Day(
        "Redis full, without eviction",
        30,
        {unavailable("redis", "Refused"): count((15, 0), (15, 60)), BACKLOG: level((15, 0), (15, 120))},
        {"RedisRefuses": "ticket", "DeliveryLate": "page"},
    ),
    Day(
        "a primary gone for good, another promoted",
        30,
        both(breaker, "postgres-1", notation=level((20, 0), (10, 1))),
        {"PostgresHostAway": "ticket"},
    ),
    Day(
        "all of PostgreSQL away",
        30,
        {
            **both(breaker, "postgres-1", notation=level((25, 0), (5, 1))),
            **both(breaker, "postgres-2", notation=level((25, 0), (5, 1))),
            **both(answers, "stale", notation=count((25, 0), (5, 3000))),
            **both(answers, "found", notation=count((25, 6000), (5, 3000))),
        },
        {"PostgresAway": "page", "StaleAnswers": "page"},
    ),
    Day(
        "all of PostgreSQL and Redis away",
        30,
        {
            **both(breaker, "redis", notation=level((25, 0), (5, 1))),
            **both(breaker, "postgres-1", notation=level((25, 0), (5, 1))),
            **both(breaker, "postgres-2", notation=level((25, 0), (5, 1))),
            **both(answers, "stale", notation=count((25, 0), (5, 3000))),
            **both(answers, "found", notation=count((25, 6000), (5, 1000))),
            LEADER: level((25, 1), (5, 0)),
        },
        {"PostgresAway": "page", "RedisAway": "page", "StaleAnswers": "page", "RelayWithoutLeader": "page"},
    ),
    Day(
        "Redis emptied, and filled again",
        20,
        {f'lookup_distrusts_total{{reason="stream",instance="{i}"}}': count((15, 0), (1, 1), (4, 0)) for i in LOOKUPS},
    ),
    Day(
        "the primary's disk full, and it stops",
        90,
        {
            **both(breaker, "postgres-1", notation=level((60, 0), (30, 1))),
            requests("intake", 503, "intake-1"): count((60, 0), (30, 300)),
            requests("intake", 200, "intake-1"): count((60, 600), (30, 0)),
            **both(answers, "stale", notation=count((60, 0), (30, 3000))),
            **both(answers, "found", notation=count((60, 6000), (30, 0))),
            LEADER: level((60, 1), (30, 0)),
        },
        {
            "PostgresHostAway": "ticket",
            "IntakeAvailabilityBurn": "page",
            "StaleAnswers": "page",
            "RelayWithoutLeader": "page",
        },
    ),
    Day("a standby half a minute behind", 20, {LAG: level((10, 0.7), (10, 30))}, {"StandbyLagging": "ticket"}),
    Day(
        "no standby confirms",
        90,
        {
            UNKNOWN: count((60, 0), (30, 60)),
            requests("intake", 503, "intake-1"): count((60, 0), (30, 300)),
            requests("intake", 200, "intake-1"): count((60, 600), (30, 300)),
        },
        {"OutcomesUnknown": "ticket", "IntakeAvailabilityBurn": "page"},
    ),
    Day("PostgreSQL restored to two minutes ago", 20, {HALTED: level((15, 0), (5, 1))}, {"RelayHalted": "page"}),
    Day("no relay leads", 20, {LEADER: level((10, 1), (10, 0))}, {"RelayWithoutLeader": "page"}),
    Day("two relays lead, at two servers", 20, {SECOND: level((10, 0), (10, 1))}, {"RelayTwoLeaders": "ticket"}),
    Day(
        "a forgotten transaction",
        20,
        {WRITER: level((15, 0), (5, 200)), BACKLOG: level((15, 0), (5, 200))},
        {"WriterHoldsDeliveryUp": "page", "DeliveryLate": "page"},
    ),
    Day(
        "changes late for hours",
        7 * HOUR,
        {
            **both(slices, "late", notation=count((5 * HOUR, 0), (2 * HOUR, 6), every=STRIDE)),
            **both(slices, "fresh", notation=count((5 * HOUR, 6), (2 * HOUR, 0), every=STRIDE)),
        },
        {"LookupFreshnessBurn": "page"},
        stride=STRIDE,
    ),
    Day(
        "every dependency 200 ms slower",
        2 * HOUR,
        both(timed, notation=count((2 * HOUR, 6060), every=STRIDE))
        | {timed(i, "0.1"): count((90, 6050), (30, 3000), every=STRIDE) for i in LOOKUPS},
        {"LookupLatencyBurn": "page"},
        stride=STRIDE,
    ),
    Day(
        "an error in fifty for an hour",
        3 * HOUR,
        {requests("lookup", 500, "lookup-1"): count((2 * HOUR, 0), (HOUR, 240), every=STRIDE)},
        {"LookupAvailabilityBurn": "page"},
        stride=STRIDE,
    ),
    Day(
        "one error in a thousand for three days",
        3 * DAY + HOUR,
        {requests("lookup", 500, "lookup-1"): count((3 * DAY + HOUR, 12), every=30)},
        {"LookupAvailabilityBurn": "ticket"},
        stride=30,
    ),
    Day(
        "a spike beyond capacity",
        20,
        each_lookup("lookup_shedding_level", level((17, 0), (3, 2))),
        {"LookupsShed": "page"},
    ),
    Day(
        "a peak at the edge of capacity",
        30,
        {
            **each_lookup("lookup_shedding_level", level((15, 0), (15, 1))),
            of_lookup("hoso24_loop_lag_seconds", "lookup-1"): level((15, 0), (15, 0.7)),
        },
        {"BatchesShed": "ticket", "LoopLate": "ticket"},
    ),
    Day(
        "an enumerator",
        40,
        each_lookup("lookup_limited_total", count((20, 0), (20, 6000))),
        {"EnumerationSuspected": "ticket"},
    ),
    Day(
        "another program writes into our Redis",
        20,
        {UNREADABLE: count((15, 0), (5, 2))},
        {"UnreadableEntries": "ticket"},
    ),
    Day(
        "a feed that breaks again and again",
        30,
        {'lookup_distrusts_total{reason="gap",instance="lookup-1"}': count((20, 0), (10, 3))},
        {"FeedBreaksOften": "ticket"},
    ),
    Day(
        "one lookup in an old epoch",
        20,
        {of_lookup("lookup_epoch", "lookup-1"): level((10, 1), (10, 2))},
        {"EpochsDiffer": "page"},
    ),
    Day(
        "a client that opens connections and sends nothing",
        20,
        {CUT: count((10, 0), (10, 600))},
        {"ConnectionsFull": "page"},
    ),
    Day("a log that is not read", 20, {DROPPED: count((15, 0), (5, 1000))}, {"LogLinesDropped": "ticket"}),
    Day(
        "the edge closed",
        70,
        {PROBE: level((60, 1), (10, 0))},
        {"EdgeAvailabilityBurn": "page"},
    ),
    Day(
        "a certificate forgotten",
        2 * HOUR,
        {CERTIFICATE: level((2 * HOUR, 5 * 86400), every=STRIDE)},
        {"CertificateEnds": "ticket"},
        stride=STRIDE,
    ),
    Day(
        "nothing there at all",
        30,
        firing={
            "LookupAbsent": "page",
            "IntakeAbsent": "page",
            "RelayAbsent": "page",
            "EdgeProbeAbsent": "ticket",
        },
        only={'up{job="other"}': level((30, 1))},
    ),
]


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool")


def unit_test(day: Day) -> dict[str, Any]:
    """The day as promtool takes it: exactly these alerts fire at its end, and no other."""
    return {
        "interval": f"{day.stride}m",
        "name": day.name,
        "input_series": [{"series": name, "values": notation} for name, notation in day.series.items()],
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": f"{day.minutes - day.stride}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}", severity="{severity}"}}', "value": times}
                    for (name, severity), times in expected(day).items()
                ],
            }
        ],
    }


def expected(day: Day) -> dict[tuple[str, str], int]:
    """Alert and severity → how many. While there are data of a few hours only, what is beyond 14.4 times over an hour
    is beyond the other two over their longer windows as well."""
    times = {}
    for name, severity in day.firing.items():
        times[name, severity] = 1
        if name.endswith("Burn") and severity == "page":
            times |= {(name, "page"): 2, (name, "ticket"): 1}
    return times


@pytest.mark.servers
@pytest.mark.parametrize("day", DAYS, ids=lambda day: day.name)
def test_exactly_those_are_woken_who_have_to_be(promtool: str, day: Day, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": GROUPS}))
    test = {"rule_files": ["rules.yml"], "evaluation_interval": f"{day.stride}m", "tests": [unit_test(day)]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test, width=10_000))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_day() -> None:
    assert {name for day in DAYS for name in day.firing} == ALERTS
