"""Every metric of the lookup, declared once."""

import functools

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "lookup_answers_total",
    "Dossiers looked up, each counted once. source is where the answer came from: memory of this process, redis, "
    "postgres, or nowhere when nobody was asked or nobody answered. outcome is found; missing when there is no such "
    "dossier; stale when the dossier went out marked as perhaps out of date; unavailable when nobody could be asked in "
    "time; shed when it was refused for overload; limited when its client probed too much; wrong_key when the lookup "
    "key does not open the dossier.",
    ["source", "outcome"],
)
REFRESHES = Counter(
    "lookup_refreshes_total",
    "Refreshes begun behind an answer because the copy was past half its soft age. outcome is done, or unavailable "
    "when nobody could be asked.",
    ["outcome"],
)
FILL_LOSSES = Counter(
    "lookup_fills_lost_total", "Loaded records that lost the comparison because Redis knew a newer version already."
)
FILL_SKIPS = Counter("lookup_fills_skipped_total", "Batches not stored in Redis because it could not be reached.")
BATCH_SIZE = Histogram(
    "lookup_batch_size",
    "Dossiers or official numbers that travelled together in one round trip. dependency is redis for reading copies, "
    "postgres for a load from whichever host is best asked, primary for a load that only the primary may answer.",
    ["dependency"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
UNREADABLE = Counter(
    "lookup_unreadable_entries_total", "Cached values that were not in our form, and were passed over."
)
ISSUED_UNSEEN = Counter(
    "lookup_issued_unseen_total",
    "Lookups with a right key for which a copy said there is no such dossier: Postgres was asked.",
)
AGE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400)
ANSWER_AGE = Histogram(
    "lookup_answer_age_seconds",
    "Age of what was answered: how long ago it was certainly the truth.",
    buckets=AGE_BUCKETS,
)
FRESHNESS_SLICES = Counter(
    "lookup_freshness_slices_total",
    "Slices of ten seconds in which this process was ready. verdict is fresh when no heartbeat came more than a second "
    "late, otherwise late.",
    ["verdict"],
)
FEED_AGE = Gauge("lookup_feed_age_seconds", "Age of the newest heartbeat followed, by the database's clock.")
DISTRUSTS = Counter(
    "lookup_distrusts_total",
    "Times all copies in memory had to be verified anew because changes may have been missed. reason is join when this "
    "process begins to follow the stream, lost when the stream could not be read for a while, gap when an entry does "
    "not follow the one before, stream when another stream has begun, epoch when another epoch has.",
    ["reason"],
)
STANDBY_LAG = Gauge(
    "lookup_standby_lag_seconds",
    "Age of the newest heartbeat a standby has, by the database's clock; 0 for a host that is no standby or is away. "
    "dependency as in hoso24_dependency_seconds.",
    ["dependency"],
)
EPOCH = Gauge("lookup_epoch", "The epoch this process reads in; `hoso24 cache renew` begins a new one.")
MEMORY_COPIES = Gauge("lookup_memory_copies", "Copies of dossiers in process memory.")
MEMORY_BYTES = Gauge("lookup_memory_bytes", "Bytes that the copies in process memory take.")
SHEDDING = Gauge(
    "lookup_shedding_level",
    "What is refused for overload now: 0 nothing, 1 batches, 2 codes that no cache knows as well, 3 everything that is "
    "not in process memory.",
)
SHED = Counter(
    "lookup_shed_total",
    "Times something was refused because there was more to do than could be done. load is what was wanted: batch for a "
    "list of dossiers or a refresh, unknown for a code no cache knows, cold for a code that is not in process memory.",
    ["load"],
)
SLOWED = Counter(
    "lookup_slowed_total",
    "Answers held back because their client is over a rate. rate is missing for codes nobody has, wrong_key for lookup "
    "keys that do not fit, primary for questions only the primary may answer, found for dossiers outside process "
    "memory, prefix for those of one agency and day.",
    ["rate"],
)
LIMITED = Counter(
    "lookup_limited_total", "Lookups refused with 429 because too many answers of one client were being held back."
)
WRONG_KEYS = Counter(
    "lookup_wrong_keys_total",
    "Lookup keys that did not open the dossier. reason is forged for one that was never issued for it, superseded for "
    "one that was replaced by a newer one.",
    ["reason"],
)


@functools.cache
def batch_size(dependency: str) -> Histogram:
    """The histogram of this label, as `answers` finds its counters."""
    return BATCH_SIZE.labels(dependency)


@functools.cache
def answers(source: str, outcome: str) -> Counter:
    """The counter of these labels, found once: there are few, and finding one takes a lock."""
    return ANSWERS.labels(source, outcome)
