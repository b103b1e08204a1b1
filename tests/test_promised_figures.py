"""Every figure that README, DECISIONS, docs or runbooks promise, beside the constant that keeps it.

A figure that is changed on purpose is changed here too, and on the pages where the promise stands. On the pages only
the soft age is looked for: a dozen of them tell it in words.
"""

import inspect
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from intake.books import lost_tail, writers
from intake.books.ledger import Ledger
from intake.books.relay import POSTGRES_DEADLINE, REMIND_AFTER, TOO_LATE, Relay
from intake.bulk.loader import MOST_LINES, TRANSACTION_TARGET, _next_size
from intake.bulk.source import LONGEST_LINE
from intake.rules.requests import TOLERANCE
from intake.rules.workdays import HOURS_PER_DAY
from intake.sign_of_life import EVERY as SIGN_OF_LIFE_EVERY
from loadtests import answers
from lookup.cache import STREAM_LENGTH
from lookup.clock import DatabaseClock
from lookup.lookup_key import _MAC_CHARACTERS, HIGHEST_SERIAL
from lookup.metrics import ANSWER_AGE, BATCH_SIZE
from lookup.reading.batching import ENOUGH, FIRST_PACE, SMALLEST, WINDOW, BatchQueue
from lookup.reading.feed import REJOIN, Feed
from lookup.reading.feed import REMEMBERED as FLOORS_REMEMBERED
from lookup.reading.feed import WAIT as READ_BLOCKS
from lookup.reading.freshness import SECOND, Freshness
from lookup.reading.hosts import LARGEST_LAG
from lookup.reading.limits import (
    FARTHEST,
    HOME,
    LATEST,
    LEVELS,
    MOST_NAMES,
    MOST_WATCHED,
    NETWORK,
    PAIRS,
    PLACES,
    REGION,
    SAMPLE,
    SHOWN,
    SITE,
    SOONEST,
    WATCHED,
    Rate,
)
from lookup.reading.memory import FINISHED_BYTES, OVERHEAD, RENDERED_OVERHEAD, Memory
from lookup.reading.read_through import NAMES_IN_A_QUERY, PRIMARY_ROUNDS, REDIS_ROUND_TRIPS, ReadThrough
from lookup.reading.shared_limits import EVERY as SHARED_EVERY
from lookup.reading.shared_limits import NAMES_AT_ONCE
from lookup.reading.shedding import LATE, LOOK_EVERY, REFUSED_AFTER, WAIT, Load, Overloaded
from lookup.schema import ATTEMPTS, LOCK_TIMEOUT
from lookup.settings import LookupSettings
from lookup.upkeep.freshness_sli import LATE as BEAT_LATE
from lookup.upkeep.freshness_sli import SLICE
from lookup.upkeep.pulse import AWAY_EVERY
from lookup.upkeep.pulse import EVERY as PULSE_EVERY
from lookup.upkeep.service_status import SILENT_AFTER
from lookup.web.answers import SPELT_OTHERWISE
from lookup.web.api import DOSSIERS_IN_A_REQUEST
from lookup.web.hotpath import FLUSH_EVERY, SENT_AWAY_AT_ONCE
from lookup.web.pages import COOKIE_SECONDS
from lookup.web.service_pages import OLD_AFTER
from lookup.web.status_pages import ANNOUNCED_AHEAD
from ops.http.access import BAD_LINES, DRAWN_LINES
from ops.http.allowance import SHARED_FROM, Allowance
from ops.http.bodies import BODY_SECONDS
from ops.http.connection import HEAD_SECONDS, UNREAD_SECONDS
from ops.http.connection_limit import MOST
from ops.observe.tracing import DRAWN_TRACES, USUAL_RATIO
from ops.stores.postgres import NEXT_HOST_AFTER

ROOT = Path(__file__).resolve().parent.parent
SECONDS_A_DAY = 24 * 60 * 60
SETTINGS = {name: field.default for name, field in LookupSettings.__dataclass_fields__.items()}
FRESHNESS = Freshness()
FEED = Feed(DatabaseClock(), Memory(0), FRESHNESS)


def default(of: Callable[..., Any], parameter: str) -> Any:
    """What this parameter is unless it is given."""
    return inspect.signature(of).parameters[parameter].default


def rate(of: Rate) -> tuple[int, float]:
    """How many at once, and how many a second after that."""
    burst, an_hour = allowance(of.allowance)
    return burst, an_hour / 3600


def allowance(of: Allowance) -> tuple[int, int]:
    """How many at once, and how many an hour after that."""
    return round(of.tolerance / of.interval), round(3600 / of.interval)


def _bounds(of: Any) -> list[float]:
    """The upper bounds of a histogram's buckets but for the last, which has none."""
    return list(of._upper_bounds[:-1])


AGES = {
    "nothing older than the soft age, a minute, goes out unmarked": ((FRESHNESS.soft, SETTINGS["soft_age"]), (60, 60)),
    "nothing older than the hard age, a day, goes out at all": (
        (FRESHNESS.hard, SETTINGS["hard_age"]),
        (SECONDS_A_DAY, SECONDS_A_DAY),
    ),
    "Redis keeps a record for as long as it may be served": (FRESHNESS.ttl, SECONDS_A_DAY),
    '"no such dossier" is repeated for five seconds at the most': (FRESHNESS.negative, 5),
    'Redis keeps "no such dossier" for five seconds': (FRESHNESS.negative_ttl, 5),
    "a feed that has been silent for five seconds confirms nothing": (FRESHNESS.silent, 5),
    "a copy in memory is trusted for five seconds after the last heartbeat": (FEED._trust, 5 * SECOND),
    "floors are kept for everything heard of in two soft ages": (FEED.floors._lifetime, 120 * SECOND),
    "that a dossier was removed is remembered for the last 200,000 of them": (FLOORS_REMEMBERED, 200_000),
    "the stream keeps 200,000 entries": (STREAM_LENGTH, 200_000),
    "a standby that is more than ten seconds behind is asked only when no other host answers": (LARGEST_LAG, 10),
    "the primary is asked three times for one lookup at the most": (PRIMARY_ROUNDS, 3),
    "the heartbeat comes once a second": (default(Relay, "beat_every"), 1),
    "the relay looks for changes forty times a second": (default(Relay, "poll_every"), 0.025),
    "a heartbeat more than a second late makes its slice of ten seconds a late one": (
        (BEAT_LATE, SLICE),
        (SECOND, 10),
    ),
}

RATES = {
    "codes there are not: a hundred at once, then two a second": (rate(Rate.MISSING), (100, 2)),
    "wrong keys: thirty at once, then one in two seconds": (rate(Rate.WRONG_KEY), (30, 0.5)),
    "questions to the primary for the sake of at_least: fifty at once, then five a second": (
        rate(Rate.PRIMARY),
        (50, 5),
    ),
    "an IPv6 /64 is shown 60 dossiers of a day and 30 an hour, of all days 300 and 150": (
        tuple(map(allowance, HOME)),
        ((60, 30), (300, 150)),
    ),
    "a /56: 120 and 60, of all days 600 and 300": (tuple(map(allowance, SITE)), ((120, 60), (600, 300))),
    "an IPv4 address or a /48: 150 and 60, of all days 3,000 and 1,800": (
        tuple(map(allowance, NETWORK)),
        ((150, 60), (3_000, 1_800)),
    ),
    "a /24 or a /40: 2,000 and 240, of all days 60,000 and 36,000": (
        tuple(map(allowance, REGION)),
        ((2_000, 240), (60_000, 36_000)),
    ),
    "more of a day only while it is a tenth of what others had, for a /24 and a /40 three times that": (
        [of.share for of in (NETWORK[0], REGION[0], HOME[0], SITE[0])],
        [0.1, 3.0, 0, 0],
    ),
    "a client that is refused may come back in ten seconds to an hour": ((SOONEST, LATEST), (10, 3_600)),
    "limits take 16 MiB": ((2 * 8 << PLACES) + (8 << PAIRS), 16 << 20),
    "of the wide allowances one disclosure in four is charged four times, within ten minutes each": (
        (SAMPLE, WATCHED),
        (4, 600),
    ),
    "ten thousand regions are watched, and ten thousand names wait to be told, from a sixteenth of an allowance on": (
        (MOST_WATCHED, MOST_NAMES, SHARED_FROM),
        (10_000, 10_000, 1 / 16),
    ),
    "no report of other processes shuts a network out for more than six hours": (FARTHEST, 6 * 3600),
    "processes tell each other of 200 networks ten times a second": ((NAMES_AT_ONCE, SHARED_EVERY), (200, 0.1)),
    "a lookup key has sixty bits and 32 serials": ((_MAC_CHARACTERS * 5, HIGHEST_SERIAL), (60, 31)),
}

LOAD = {
    "a loop that is 0.15 s late refuses batches, 0.4 s unknown codes, 0.8 s all that is not in memory": (
        LATE,
        {Load.BATCH: 0.15, Load.UNKNOWN: 0.4, Load.COLD: 0.8},
    ),
    "so does an expected wait of 0.4 s, 1 s and 1.5 s": (
        WAIT,
        {Load.BATCH: 0.4, Load.UNKNOWN: 1.0, Load.COLD: 1.5},
    ),
    "batches are refused first, then unknown codes, then the rest": (
        sorted(Load),
        [Load.BATCH, Load.UNKNOWN, Load.COLD],
    ),
    "a client is told of overload a second later, and may come back in two": (
        (REFUSED_AFTER, Overloaded().retry_after),
        (1, 2),
    ),
    "a lookup is answered within 2.5 s, or 503": (
        (SETTINGS["lookup_deadline"], default(ReadThrough, "deadline")),
        (2.5, 2.5),
    ),
    "finished answers take 8 MiB of the memory, or an eighth where that is less": (
        (FINISHED_BYTES, Memory(1 << 30)._finished_size, Memory(1 << 20)._finished_size),
        (8 << 20, 8 << 20, 1 << 17),
    ),
    "a copy in memory takes 400 bytes beside its body, a finished answer 260": (
        (OVERHEAD, RENDERED_OVERHEAD),
        (400, 260),
    ),
    "a command to Redis takes 0.1 s at the most, a read from PostgreSQL one second": (
        (SETTINGS["redis_deadline"], SETTINGS["pg_deadline"]),
        (0.1, 1),
    ),
    "four queries under way in PostgreSQL, and four round trips to Redis": (
        (SETTINGS["pg_queries"], REDIS_ROUND_TRIPS),
        (4, 4),
    ),
    "256 distinct codes travel in one query, and no fewer than eight where it is slow": (
        (NAMES_IN_A_QUERY, SMALLEST),
        (256, 8),
    ),
    "a second batch sets out beside a running one only if 32 wait or the running one takes 25 ms": (
        (ENOUGH, default(BatchQueue, "target")),
        (32, 0.025),
    ),
    "up to a hundred dossiers in one batch of the API": (DOSSIERS_IN_A_REQUEST, 100),
    "20 s for a head, 10 s for a body, 60 s for taking answers, 10,000 connections": (
        (HEAD_SECONDS, BODY_SECONDS, UNREAD_SECONDS, MOST),
        (20, 10, 60, 10_000),
    ),
    "one trace in a hundred, fifty a second at the most": ((USUAL_RATIO, DRAWN_TRACES), (0.01, 50)),
    "one good lookup in a hundred has a line in the log, fifty a second at the most, of the others a hundred": (
        (SETTINGS["access_log_share"], DRAWN_LINES, BAD_LINES),
        (0.01, 50, 100),
    ),
}

REPAIR = {
    "roles, epoch and clock are asked for once a second": (PULSE_EVERY, 1),
    "a lookup that knows of no primary looks for one four times a second": (AWAY_EVERY, 0.25),
    "a quarter of a second after one host of a URL, the next is tried beside it": (NEXT_HOST_AFTER, 0.25),
    "an intake gives a sign of life every five seconds, and is called silent after twenty": (
        (SIGN_OF_LIFE_EVERY, SILENT_AFTER),
        (5, 20 * SECOND),
    ),
    "the relay is called late after five seconds, and says once a minute that it cannot deliver": (
        (TOO_LATE, REMIND_AFTER),
        (5, 60),
    ),
    "the relay waits two seconds for a connection or a statement": (POSTGRES_DEADLINE, 2),
    "a writing transaction is named after two seconds, and a reader's ended": (
        (writers.NAMED_SECONDS, writers.READERS_SECONDS),
        (2, 2),
    ),
    "the status page says after a minute when announcements were last read": (OLD_AFTER, 60 * SECOND),
    "a migration waits three seconds for a lock, ten times": ((LOCK_TIMEOUT, ATTEMPTS), (3, 10)),
    "a source's clock may run five minutes ahead": (TOLERANCE, timedelta(minutes=5)),
}

PAGES = {
    "a key opens the holder's page for an hour": (COOKIE_SECONDS, 3600),
    "a dossier's page tells of a maintenance from a day before it": (ANNOUNCED_AHEAD, timedelta(days=1)),
    "a redirect to the canonical spelling may be kept for a day": (
        SPELT_OTHERWISE,
        {"Cache-Control": f"public, max-age={SECONDS_A_DAY}"},
    ),
}


def allowances(length: int) -> list[tuple[int, bool, str]]:
    """Of a client of so many bytes: bytes of each network it is in, whether for one prefix, which allowance."""
    return sorted((size, narrow, of.word) for levels in LEVELS[length] for size, narrow, of in levels)


NETWORKS = {
    "what all see of a prefix is remembered as 1,600 at once and 1,000 an hour": (
        allowance(SHOWN),
        (1_600, 1_000),
    ),
    "an IPv4 client is in two networks": (
        allowances(4),
        [(3, False, "region"), (3, True, "region_prefix"), (4, False, "network"), (4, True, "network_prefix")],
    ),
    "an IPv6 client is in four": (
        allowances(8),
        [
            *((5, False, "region"), (5, True, "region_prefix"), (6, False, "network"), (6, True, "network_prefix")),
            *((7, False, "site"), (7, True, "site_prefix"), (8, False, "home"), (8, True, "home_prefix")),
        ],
    ),
    "a client without an address has a network of its own": (
        allowances(0),
        [(0, False, "network"), (0, True, "network_prefix")],
    ),
}

WORK = {
    "a line of an import has a mebibyte at the most": (LONGEST_LINE, 1 << 20),
    "a transaction of an import has a thousand lines at the most and is open for a twentieth of a second": (
        (MOST_LINES, TRANSACTION_TARGET, _next_size(1000, 0.1), _next_size(500, 0.01), _next_size(10, 10.0)),
        (1000, 0.05, 500, 1000, 10),
    ),
    "`hoso24 cache lost` waits five seconds for a server, and reads a thousand entries at a time": (
        (lost_tail.DEADLINE, lost_tail.CHUNK),
        (5, 1000),
    ),
    "metrics of early answers are a tenth of a second old at the most": (FLUSH_EVERY, 0.1),
    "a hundred refusals leave in one turn of the loop": (SENT_AWAY_AT_ONCE, 100),
    "overload is measured a hundred times a second, a queue's pace ten times": ((LOOK_EVERY, WINDOW), (0.01, 0.1)),
    "a lost feed is joined again ten times a second": (REJOIN, 0.1),
    "a follower's read of the stream lasts a second at the most": (READ_BLOCKS, 1),
    "a queue counts on five thousand items a second until it has been measured": (FIRST_PACE, 5_000),
    "the relay delivers 250 changes at once at the most": (default(Relay, "batch"), 250),
    "a transaction of the intake lasts ten seconds at the most": (default(Ledger, "longest"), 10),
    "ages of answers are sorted from a tenth of a second to a day": (
        _bounds(ANSWER_AGE),
        [0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 3_600, 86_400],
    ),
    "sizes of batches are sorted by powers of two up to the largest there is": (
        _bounds(BATCH_SIZE.labels("redis")),
        [1, 2, 4, 8, 16, 32, 64, 128, NAMES_IN_A_QUERY],
    ),
    "an office day has eight hours": (HOURS_PER_DAY, 8),
}

PROMISES = AGES | RATES | LOAD | REPAIR | PAGES | NETWORKS | WORK


@pytest.mark.parametrize("promise", PROMISES)
def test_promise_is_what_its_constant_says(promise: str) -> None:
    constant, promised = PROMISES[promise]
    assert constant == promised


SOFT_AGE_IN_WORDS = {
    "README.md": "the soft age (60 s)",
    "lookup/reading/reader.py": "the soft age (60 s)",
    "docs/runbooks/DeliveryLate.md": "up to a minute",
    "docs/runbooks/LookupFreshnessBurn.md": "up to a minute",
    "docs/runbooks/RedisAway.md": "up to a minute",
    "docs/runbooks/RedisRefuses.md": "up to a minute",
    "docs/runbooks/RelayAbsent.md": "up to a minute",
    "docs/runbooks/RelayHalted.md": "up to a minute",
    "docs/runbooks/RelayWithoutLeader.md": "up to a minute",
    "docs/runbooks/WriterHoldsDeliveryUp.md": "up to a minute",
    "loadtests/README.md": "nothing older than a minute unmarked",
}


def test_pages_and_load_tests_tell_the_soft_age_there_is() -> None:
    told = {page for page, words in SOFT_AGE_IN_WORDS.items() if words in (ROOT / page).read_text("utf-8")}
    assert set(SOFT_AGE_IN_WORDS) - told == set(), "a page says it in other words: correct them here"
    assert FRESHNESS.soft == 60, f"these pages still tell of a minute: {sorted(told)}"
    assert FRESHNESS.soft == answers.SOFT_AGE, "the load tests judge by another soft age (loadtests/answers.py)"
