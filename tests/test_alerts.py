"""What fires when: every alert against the days on which it has to, and the days on which no alert may fire.

promtool evaluates the real rules. The series of our processes are those of a house that runs: which there are, under
which names and labels. How they develop is told here: on a healthy day, in a quiet night, and with each fault. An
installation in another namespace stays healthy: nothing of it may be counted, or named.
"""

import re
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import intake.metrics  # noqa: F401 - declares metrics
import lookup.metrics  # noqa: F401
from ops.monitoring import rules
from ops.monitoring.objectives import alerts, objectives
from tests.places import in_memory
from tests.programs import program
from tests.system.test_up import get, running, send, wait_for

GROUPS = [group for group in rules.groups(objectives(), alerts()) if group["name"] != "slo-budgets"]
"""Without what is left of the budgets of thirty days, which no alert looks at."""
RULED = set(
    re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b", " ".join(rule["expr"] for each in GROUPS for rule in each["rules"]))
)
"""Words of the rules, the names of all series among them."""
ALERTS = {rule["alert"] for group in GROUPS for rule in group["rules"] if "alert" in rule}
FIRING = 'count by (alertname, severity, namespace) (ALERTS{alertstate="firing"})'
HERE, ELSEWHERE, NOT_OURS = "hoso24", "elsewhere", "not-ours"
"""Namespaces: of the installation that is looked at, of one that is well all the time, and of other people."""

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
SERVICES = {"lookup": 2, "intake": 1, "relay": 2, "notary": 1, "webhooks": 1, "notices": 1, "desk": 1}
ROUTE = 'method="GET",route="/api/v1/dossiers/{code}"'
TIMED_ROUTE = 'route="/api/v1/dossiers/{code}"'


def requests(service: str, status: int, instance: str) -> str:
    return f'hoso24_http_requests_total{{service="{service}",{ROUTE},status="{status}",instance="{instance}"}}'


def timed(instance: str, le: str = "") -> str:
    labels = f'service="lookup",{TIMED_ROUTE},instance="{instance}"'
    what = f'bucket{{{labels},le="{le}"}}' if le else f"count{{{labels}}}"
    return f"hoso24_http_request_seconds_{what}"


def breaker(dependency: str, instance: str) -> str:
    return f'hoso24_breaker_open{{dependency="{dependency}",instance="{instance}"}}'


def answers(outcome: str, instance: str) -> str:
    return f'lookup_answers_total{{source="redis",outcome="{outcome}",instance="{instance}"}}'


def limited(rate: str, instance: str) -> str:
    return f'lookup_limited_total{{rate="{rate}",instance="{instance}"}}'


def slices(verdict: str, instance: str) -> str:
    return f'lookup_freshness_slices_total{{verdict="{verdict}",instance="{instance}"}}'


def unavailable(dependency: str, reason: str) -> str:
    return f'hoso24_dependency_unavailable_total{{dependency="{dependency}",reason="{reason}",instance="{LOOKUPS[0]}"}}'


PROBE = 'probe_success{job="hoso24-edge"}'
CERTIFICATE = 'probe_ssl_earliest_cert_expiry{job="hoso24-edge"}'
INTAKE = 'hoso24_http_in_flight{service="intake",instance="intake-1"}'
LEADER, SECOND = 'relay_leader{instance="relay-1"}', 'relay_leader{instance="relay-2"}'
HALTED = 'relay_halted{instance="relay-1"}'
BOOKS_HALTED, REFUSED = 'notary_halted{instance="notary-1"}', 'notary_refused_total{instance="notary-1"}'
BEHIND, SIGNED = 'notary_behind_seconds{instance="notary-1"}', 'notary_signature_age_seconds{instance="notary-1"}'
FEED_SOON = 'intake_feed_lag_seconds_bucket{instance="intake-1",le="0.05"}'
FEED_LATE = 'intake_feed_lag_seconds_bucket{instance="intake-1",le="5.0"}'
FEED_ALL = 'intake_feed_lag_seconds_bucket{instance="intake-1",le="+Inf"}'
LETTERS = 'intake_oldest_dead_letter_seconds{instance="intake-1"}'
WEBHOOKS_PAUSED = 'webhooks_subscriptions{state="paused",instance="webhooks-1"}'
WEBHOOKS_BEHIND = 'webhooks_behind_seconds{instance="webhooks-1"}'
WEBHOOKS_SERVING = 'webhooks_serving{instance="webhooks-1"}'
SIGNED_IN = 'desk_sign_ins_total{outcome="signed_in",instance="desk-1"}'
REFUSED_IN = 'desk_sign_ins_total{outcome="refused",instance="desk-1"}'
NOTICES_SERVING = 'notices_serving{instance="notices-1"}'
NOTICES_BEHIND = 'notices_behind_seconds{instance="notices-1"}'
NOTICES_SENT = 'notices_attempts_total{channel="mail",outcome="sent",instance="notices-1"}'
NOTICES_FAILED = 'notices_attempts_total{channel="mail",outcome="failed",instance="notices-1"}'
BACKLOG = 'relay_backlog_seconds{instance="relay-1"}'
REACHABLE = [f'relay_primary_reachable{{instance="relay-{number}"}}' for number in (1, 2)]
DELIVERED = 'relay_lag_seconds{instance="relay-1"}'
WRITER = 'relay_writer_seconds{instance="relay-1",pid="77",role="hoso24_writer",application="by-hand"}'
LAG = 'lookup_standby_lag_seconds{dependency="postgres-2",instance="lookup-1"}'
DROPPED = 'hoso24_log_lines_dropped_total{instance="lookup-1"}'
CUT = 'hoso24_connections_cut_total{service="lookup",reason="silent",instance="lookup-1"}'
UNREADABLE = 'lookup_unreadable_entries_total{instance="lookup-1"}'
UNKNOWN = 'intake_outcomes_unknown_total{instance="intake-1"}'
ARCHIVED = 'cnpg_pg_stat_archiver_last_archived_time{pod="postgres-1"}'
BACKUP = 'barman_cloud_cloudnative_pg_io_last_available_backup_timestamp{pod="postgres-1"}'
TIDIED = 'kube_cronjob_status_last_successful_time{cronjob="tidy"}'
COUNTED = 'kube_cronjob_status_last_successful_time{cronjob="figures"}'
TIDY_MADE = 'kube_cronjob_created{cronjob="tidy"}'
FREE = 'kubelet_volume_stats_available_bytes{persistentvolumeclaim="postgres-1-wal"}'
# cert-manager is scraped in a namespace of its own.
RENEWED = 'certmanager_certificate_expiration_timestamp_seconds{name="redis",namespace="cert-manager"}'
REPLICAS = 'kube_horizontalpodautoscaler_status_current_replicas{horizontalpodautoscaler="lookup"}'
PHASE = 'kube_pod_status_phase{pod="lookup-1",phase="Running"}'
LOOPING = """\
kube_pod_container_status_waiting_reason{pod="lookup-1",container="lookup",reason="CrashLoopBackOff"}"""
SENTINELS = 'kube_statefulset_status_replicas_ready{statefulset="sentinel"}'


def of_lookup(name: str, instance: str) -> str:
    return f'{name}{{instance="{instance}"}}'


def of_no_installation(minutes: int, every: int) -> Series:
    """What the exporters say of a namespace that is not ours: everything is broken, and that is not ours to tell."""
    ill = {ARCHIVED: 0, BACKUP: 0, TIDIED: 0, COUNTED: 0, FREE: 0, RENEWED: 0, REPLICAS: 12, LOOPING: 1, SENTINELS: 0}
    usual = of_others(minutes, every) | {name: level((minutes, value), every=every) for name, value in ill.items()}
    return {name: notation for name, notation in usual.items() if not name.startswith("probe_")}


def of_others(minutes: int, every: int = 1) -> Series:
    """What the cluster's own exporters say: all is well."""
    return {
        PROBE: level((minutes, 1), every=every),
        CERTIFICATE: level((minutes, NINETY_DAYS), every=every),
        ARCHIVED: count((minutes, 60), every=every),
        ARCHIVED.replace("postgres-1", "postgres-2"): level((minutes, -1), every=every),
        BACKUP: count((minutes, 60), every=every),
        TIDIED: count((minutes, 60), every=every),
        COUNTED: count((minutes, 60), every=every),
        FREE: level((minutes, 30e9), every=every),
        FREE.replace("available", "capacity"): level((minutes, 50e9), every=every),
        RENEWED: level((minutes, NINETY_DAYS), every=every),
        REPLICAS: level((minutes, 4), every=every),
        REPLICAS.replace("status_current", "spec_max"): level((minutes, 12), every=every),
        PHASE: level((minutes, 1), every=every),
        SENTINELS: level((minutes, 3), every=every),
        SENTINELS.replace("status_replicas_ready", "replicas"): level((minutes, 3), every=every),
    }


def healthy(minutes: int, every: int = 1) -> Series:
    """Two lookups at a hundred lookups a second each, an intake at ten, two relays; a few errors, as always."""
    series = of_others(minutes, every) | {
        requests("intake", 200, "intake-1"): count((minutes, 600), every=every),
        requests("intake", 409, "intake-1"): count((minutes, 5), every=every),
        requests("intake", 503, "intake-1"): count((minutes, 0), every=every),
        INTAKE: level((minutes, 2), every=every),
        LEADER: level((minutes, 1), every=every),
        SECOND: level((minutes, 0), every=every),
        HALTED: level((minutes, 0), every=every),
        BOOKS_HALTED: level((minutes, 0), every=every),
        REFUSED: count((minutes, 0), every=every),
        BEHIND: level((minutes, 0.2), every=every),
        SIGNED: level((minutes, 40), every=every),
        **{name: count((minutes, 60), every=every) for name in (FEED_SOON, FEED_LATE, FEED_ALL)},
        LETTERS: level((minutes, 3600), every=every),
        WEBHOOKS_PAUSED: level((minutes, 0), every=every),
        WEBHOOKS_BEHIND: level((minutes, 0.3), every=every),
        WEBHOOKS_SERVING: level((minutes, 2), every=every),
        SIGNED_IN: count((minutes, 1), every=every),
        REFUSED_IN: count((minutes, 0), every=every),
        NOTICES_SERVING: level((minutes, 1), every=every),
        NOTICES_BEHIND: level((minutes, 0.3), every=every),
        BACKLOG: level((minutes, 0.03), every=every),
        DELIVERED: level((minutes, 0.7), every=every),
        **{name: level((minutes, 1), every=every) for name in REACHABLE},
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
            answers("limited", instance): count((minutes, 25), every=every),
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


def no_relay_reaches_the_primary(well: int, away: int) -> Series:
    return {of_relay: level((well, 1), (away, 0)) for of_relay in REACHABLE}


@dataclass(frozen=True)
class Day:
    """So many minutes, what is not as on a healthy day, and who is woken at its end: alert → severity."""

    name: str
    minutes: int
    changes: Mapping[str, str] = field(default_factory=dict)
    firing: Mapping[str, str] = field(default_factory=dict)
    stride: int = 1
    vanish: Sequence[str] = ()
    """How the names of series begin that end after a third of the day, or of instances."""
    alone: Mapping[str, str] | None = None
    """These series instead of all others; there is no other installation either."""

    def series(self, scraped: "Scraped") -> Series:
        """Everything Prometheus has: of this installation and of the other one."""
        if self.alone is not None:
            return dict(self.alone)
        told = {named(name): notation for name, notation in healthy(self.minutes, self.stride).items()}
        moving = {which(name) for name in told}
        steady = {
            name: level((self.minutes, value), every=self.stride)
            for name, value in scraped.everywhere().items()
            if which(name) not in moving
        }
        usual = steady | told
        here = usual | {named(name): notation for name, notation in self.changes.items()}
        third = self.minutes // self.stride // 3
        for name in here:
            if any(part in name for part in self.vanish):
                here[name] = f"{scraped.value(name)}x{third - 1} _x{self.minutes // self.stride - third - 1}"
        of_namespaces = {HERE: here, ELSEWHERE: usual, NOT_OURS: of_no_installation(self.minutes, self.stride)}
        return {
            named(name, namespace): notation
            for namespace, series in of_namespaces.items()
            for name, notation in series.items()
        }


def named(series: str, namespace: str = "") -> str:
    """A series with its labels in order, and in a namespace; cert-manager's are told apart by another label."""
    name, _, inside = series.partition("{")
    labels = dict(re.findall(r'(\w+)="([^"]*)"', inside))
    if namespace:
        labels["exported_namespace" if "namespace" in labels else "namespace"] = namespace
        if "instance" in labels:
            labels["pod"] = f"{labels['instance']}-of-{namespace}"
    return name + "{" + ",".join(f'{label}="{value}"' for label, value in sorted(labels.items())) + "}"


def which(series: str) -> tuple[str, str]:
    """The name of a series and its process: one whose development is told has no other series under that name."""
    return series.partition("{")[0], "".join(re.findall(r'instance="([^"]*)"', series))


@dataclass(frozen=True)
class Scraped:
    """What the processes of a house that runs export: service → series → value."""

    samples: Mapping[str, Mapping[str, float]]

    def everywhere(self) -> dict[str, float]:
        """The series that rules name, of as many processes as an installation has; the first relay leads."""
        found = {}
        for service, processes in SERVICES.items():
            for number in range(1, processes + 1):
                for series, value in self.samples[service].items():
                    if series.partition("{")[0] in RULED:
                        instance = f'instance="{service}-{number}"'
                        mine = series[:-1] + ("," if series[-2] != "{" else "") + instance + "}"
                        found[named(mine)] = 0.0 if service == "relay" and number > 1 else value
        return found

    def value(self, name: str) -> float:
        """Of a series under the name that everywhere() has for it; 1.0 for one of others."""
        return self.everywhere().get(name, 1.0)

    def labels(self, service: str, name: str) -> list[set[str]]:
        """The names of the labels of each series under this name; empty when there is none, or none yet."""
        return [
            set(re.findall(r'(\w+)="', series)) for series in self.samples[service] if series.partition("{")[0] == name
        ]


@pytest.fixture(scope="module")
def scraped() -> Scraped:
    """The metrics of a house in which a dossier was received and looked up."""
    with tempfile.TemporaryDirectory(prefix="hoso24-alerts-", dir=in_memory()) as place:
        directory = Path(place)
        directory.chmod(0o755)
        with running(directory) as up:
            house = up.wait_until_ready()
            bearer = {"Authorization": f"Bearer {house['token']}", "Idempotency-Key": "the-first"}
            submission = {"agency": "G99.01.01", "service": "S.004", "applicant": {"name": "Lê Thị Thử (hư cấu)"}}
            assert send("POST", house["intake"] + "/api/v1/dossiers", submission, **bearer)[0] == 201
            assert get(f"{house['lookup']}/api/v1/dossiers/{house['samples'][0]['code']}")[0] == 200
            # On a machine that does much else a loop may be late just now, and every day would begin with that alert.
            found: dict[str, dict[str, float]] = {}

            def calm() -> bool:
                found.update({service: samples(house[f"{service}_admin"]) for service in SERVICES})
                return max(found[service]["hoso24_loop_lag_seconds{}"] for service in SERVICES) < 0.4

            wait_for(calm)
            return Scraped(found)


def samples(admin: str) -> dict[str, float]:
    """Every series of a process and its value."""
    with urllib.request.urlopen(f"{admin}/metrics") as page:  # noqa: S310 - http, by `up`
        families = text_string_to_metric_families(page.read().decode())
    return {
        f"{sample.name}{{{','.join(f'{label}={value!r}' for label, value in sample.labels.items())}}}".replace(
            "'", '"'
        ): sample.value
        for family in families
        for sample in family.samples
    }


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
            **no_relay_reaches_the_primary(25, 5),
        },
        {"PostgresAway": "page", "RedisAway": "page", "StaleAnswers": "page", "PrimaryAway": "page"},
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
            **no_relay_reaches_the_primary(60, 30),
        },
        {
            "PostgresHostAway": "ticket",
            "IntakeAvailabilityBurn": "page",
            "StaleAnswers": "page",
            "PrimaryAway": "page",
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
    Day(
        "nothing delivered, and nothing known of what waits",
        20,
        {DELIVERED: level((10, 0.7), (10, 60))},
        {"DeliveryLate": "page"},
    ),
    Day("PostgreSQL restored to two minutes ago", 20, {HALTED: level((15, 0), (5, 1))}, {"RelayHalted": "page"}),
    Day("log and books do not fit", 20, {BOOKS_HALTED: level((15, 0), (5, 1))}, {"BooksHalted": "page"}),
    Day("an event that no intake sealed", 20, {REFUSED: count((15, 0), (1, 1), (4, 0))}, {"EventRefused": "page"}),
    Day("the notary does not keep up", 20, {BEHIND: level((15, 0.2), (5, 200))}, {"BooksBehind": "ticket"}),
    Day("the notary does not sign", 20, {SIGNED: level((10, 40), (10, 700))}, {"BooksBehind": "ticket"}),
    Day("a webhook paused", 40, {WEBHOOKS_PAUSED: level((20, 0), (20, 1))}, {"WebhookPaused": "ticket"}),
    Day("webhooks do not keep up", 30, {WEBHOOKS_BEHIND: level((15, 0.3), (15, 90))}, {"WebhooksBehind": "ticket"}),
    Day("notices do not keep up", 40, {NOTICES_BEHIND: level((15, 0.3), (25, 400))}, {"NoticesBehind": "ticket"}),
    Day(
        "a mail server that takes nothing",
        60,
        {NOTICES_SENT: count((20, 6), (40, 0)), NOTICES_FAILED: count((20, 0), (40, 6))},
        {"NoticesDying": "ticket"},
    ),
    Day(
        "addresses that were typed wrongly",
        60,
        {NOTICES_SENT: count((60, 6)), NOTICES_FAILED: count((60, 1))},
    ),
    Day(
        "a provider that answers with other keys",
        60,
        {SIGNED_IN: count((20, 1), (40, 0)), REFUSED_IN: count((20, 0), (40, 1))},
        {"SignInsFail": "ticket"},
    ),
    Day("officers who mistype", 60, {SIGNED_IN: count((60, 2)), REFUSED_IN: count((60, 1))}),
    Day("a line refused a day ago", 40, {LETTERS: level((20, 80_000), (20, 90_000))}, {"DeadLettersWait": "ticket"}),
    Day(
        "an intake that reads the log every few seconds only",
        60,
        {FEED_SOON: count((20, 60), (40, 0))},
        {"ChangesLate": "ticket"},
    ),
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
        "a walker who asks once a second",
        60,
        both(limited, "network_prefix", notation=count((20, 0), (40, 30))),
        {"EnumerationSuspected": "ticket"},
    ),
    Day(
        "citizens behind one address who are refused now and then",
        60,
        both(limited, "network_prefix", notation=count((20, 0), (40, 0.5))),
        {},
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
            "NotaryAbsent": "ticket",
            "EdgeProbeAbsent": "ticket",
        },
        alone={'up{job="other"}': level((30, 1))},
    ),
    Day("no lookup any more", 30, firing={"LookupAbsent": "page"}, vanish=['instance="lookup-']),
    Day("no intake any more", 30, firing={"IntakeAbsent": "page"}, vanish=['instance="intake-']),
    Day("no notary any more", 30, firing={"NotaryAbsent": "ticket"}, vanish=['instance="notary-']),
    Day("no webhooks any more", 30, firing={"WebhooksAbsent": "ticket"}, vanish=['instance="webhooks-']),
    Day("no desk any more", 30, firing={"DeskAbsent": "page"}, vanish=['instance="desk-']),
    Day("no notices any more", 30, firing={"NoticesAbsent": "ticket"}, vanish=['instance="notices-']),
    Day("no relay any more", 30, firing={"RelayAbsent": "page"}, vanish=['instance="relay-']),
    Day(
        "nothing of this installation any more",
        60,
        firing={
            "LookupAbsent": "page",
            "IntakeAbsent": "page",
            "RelayAbsent": "page",
            "NotaryAbsent": "ticket",
            "WebhooksAbsent": "ticket",
            "NoticesAbsent": "ticket",
            "DeskAbsent": "page",
            "EdgeProbeAbsent": "ticket",
        },
        vanish=["instance=", "probe_"],
    ),
    Day(
        "the primary lost, standbys alive",
        20,
        {
            LEADER: level((10, 1), (10, 0)),
            LAG: level((10, 0.7), (10, 300)),
            DELIVERED: level((10, 0.7), (10, 300)),
            **no_relay_reaches_the_primary(10, 10),
        },
        {"PrimaryAway": "page"},
    ),
    Day("the log not archived", 60, {ARCHIVED: count((30, 60), (30, 0))}, {"ArchivingStopped": "page"}),
    Day("no backup for a night", 60, {BACKUP: level((60, -30 * 3600))}, {"BackupOld": "ticket"}),
    Day("nothing tidied for a day", 60, {TIDIED: level((60, -25 * 3600))}, {"TidyStopped": "ticket"}),
    Day("nothing tidied ever", 60, {TIDIED: "_x60", TIDY_MADE: level((60, -25 * 3600))}, {"TidyStopped": "ticket"}),
    Day("no figures for a day", 60, {COUNTED: level((60, -25 * 3600))}, {"FiguresStopped": "ticket"}),
    Day("nothing tidied yet", 60, {TIDIED: "_x60", TIDY_MADE: level((60, -3600))}),
    Day("a disk that fills", 60, {FREE: level((30, 30e9), (30, 10e9))}, {"PostgresDiskFills": "ticket"}),
    Day(
        "a disk almost full",
        60,
        {FREE: level((30, 30e9), (30, 4e9))},
        {"PostgresDiskFills": "ticket", "PostgresDiskFull": "page"},
    ),
    Day(
        "a certificate within that is not renewed",
        2 * HOUR,
        {RENEWED: level((2 * HOUR, 18 * 86400), every=STRIDE)},
        {"InternalCertificateEnds": "ticket"},
        stride=STRIDE,
    ),
    Day("all the lookups there may be", 40, {REPLICAS: level((20, 4), (20, 12))}, {"AutoscalerAtMaximum": "ticket"}),
    Day("a lookup that cannot start", 40, {LOOPING: "_x20 1 _ 1 _ 1x15"}, {"CrashLoop": "ticket"}),
    Day("two of three Sentinels gone", 40, {SENTINELS: level((20, 3), (20, 1))}, {"SentinelQuorumLost": "ticket"}),
    Day("one of three Sentinels gone", 40, {SENTINELS: level((20, 3), (20, 2))}),
    *(
        Day(
            f"no {series.partition('{')[0]}",
            4 * HOUR,
            firing={"SourceAbsent": "ticket"},
            vanish=[series],
            stride=STRIDE,
        )
        for series in ("kube_pod_status", "kubelet_", "cnpg_pg_stat", "barman_cloud_", "certmanager_")
    ),
]


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool")


def unit_test(day: Day, scraped: Scraped) -> dict[str, Any]:
    """The day as promtool takes it: exactly these alerts fire at its end, in this namespace, and no other."""
    where = "" if day.alone else f', namespace="{HERE}"'
    return {
        "interval": f"{day.stride}m",
        "name": day.name,
        "input_series": [{"series": name, "values": notation} for name, notation in day.series(scraped).items()],
        "promql_expr_test": [
            {
                "expr": FIRING,
                "eval_time": f"{day.minutes - day.stride}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}", severity="{severity}"{where}}}', "value": times}
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
def test_exactly_those_are_woken_who_have_to_be(promtool: str, scraped: Scraped, day: Day, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": GROUPS}))
    test = {"rule_files": ["rules.yml"], "evaluation_interval": f"{day.stride}m", "tests": [unit_test(day, scraped)]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test, width=10_000))
    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
def test_series_that_are_told_here_are_those_of_running_processes(scraped: Scraped) -> None:
    """Of each by its instance: the process exports it, with these labels and no others."""
    told = {name for day in DAYS for name in [*day.changes, *healthy(day.minutes, day.stride)]}
    found = []
    for series in sorted(told):
        name, labels = series.partition("{")[0], set(re.findall(r'(\w+)="', series))
        (instance,) = re.findall(r'instance="(\w+)-\d"', series) or [""]
        if not instance:
            assert not name.startswith(("hoso24_", *(f"{service}_" for service in SERVICES))), series
        elif labels - {"instance"} not in (scraped.labels(instance, name) or declared(name)):
            found.append(f"{instance} does not export {series}")
    assert not found, "\n".join(found)


def declared(name: str) -> list[set[str]]:
    """The labels of one that has no series before its first event: those of its declaration."""
    collector: Any = prometheus_client.REGISTRY._names_to_collectors.get(name)
    return [set(collector._labelnames)] if collector is not None and collector._labelnames else []


def test_every_alert_has_its_day() -> None:
    assert {name for day in DAYS for name in day.firing} == ALERTS
