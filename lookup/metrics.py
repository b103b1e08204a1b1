"""Every metric of the lookup, declared once."""

import functools

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "lookup_answers_total",
    "Dossiers looked up, by where the answer came from and what it was. The labels partition the outcomes: source "
    "memory, redis, postgres or nowhere; outcome found, missing, stale, unavailable, shed, limited or wrong_key.",
    ["source", "outcome"],
)
REFRESHES = Counter(
    "lookup_refreshes_total",
    "Refreshes begun behind an answer, because the copy was past half its soft age, by outcome.",
    ["outcome"],
)
FILL_LOSSES = Counter(
    "lookup_fills_lost_total", "Loaded records that lost the comparison: the cache already knew a newer one."
)
FILL_SKIPS = Counter("lookup_fills_skipped_total", "Batches not stored in Redis because it could not be reached.")
BATCH_SIZE = Histogram(
    "lookup_batch_size", "Keys per round trip.", ["dependency"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
UNREADABLE = Counter(
    "lookup_unreadable_entries_total", "Cached values that were not in our form, and were passed over."
)
AGE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400)
ANSWER_AGE = Histogram(
    "lookup_answer_age_seconds",
    "Age of what was answered: how long ago it was certainly the truth.",
    buckets=AGE_BUCKETS,
)
FRESHNESS_SLICES = Counter(
    "lookup_freshness_slices_total",
    "Slices of ten seconds in which this process was ready, by verdict: fresh when no heartbeat came more than a "
    "second late, else late.",
    ["verdict"],
)
FEED_AGE = Gauge("lookup_feed_age_seconds", "Age of the newest heartbeat followed, by the database's clock.")
DISTRUSTS = Counter(
    "lookup_distrusts_total",
    "New generations of the feed, each a moment in which changes may have been missed, by reason.",
    ["reason"],
)
STANDBY_LAG = Gauge(
    "lookup_standby_lag_seconds",
    "Age of the newest heartbeat a standby has, by the database's clock; 0 for a host that is no standby or is away.",
    ["dependency"],
)
EPOCH = Gauge("lookup_epoch", "The epoch this process reads in.")
MEMORY_COPIES = Gauge("lookup_memory_copies", "Copies in process memory.")
MEMORY_BYTES = Gauge("lookup_memory_bytes", "Bytes they take.")
SHEDDING = Gauge("lookup_shedding_level", "0 none, 1 batches, 2 unknown codes too, 3 all that is not in memory.")
SHED = Counter(
    "lookup_shed_total", "Refused because there was more to do than could be done, by what was wanted.", ["load"]
)
SLOWED = Counter("lookup_slowed_total", "Answers held back because their client is over a rate, by rate.", ["rate"])
LIMITED = Counter("lookup_limited_total", "Refused because too many answers of one client were being held back.")
WRONG_KEYS = Counter("lookup_wrong_keys_total", "Lookup keys that did not open the dossier, by reason.", ["reason"])


@functools.cache
def batch_size(dependency: str) -> Histogram:
    """The histogram of this label, as `answers` finds its counters."""
    return BATCH_SIZE.labels(dependency)


@functools.cache
def answers(source: str, outcome: str) -> Counter:
    """The counter of these labels, found once: there are few, and finding one takes a lock."""
    return ANSWERS.labels(source, outcome)
