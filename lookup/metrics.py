"""Every metric of the lookup."""

import functools

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "lookup_answers_total",
    "Dossiers looked up, each counted once. source is where the answer came from: memory of this process, redis, "
    "postgres, or nowhere when none was asked or none answered. outcome is found; missing when there is no such "
    "dossier; stale when the answer was marked as possibly out of date; unavailable when no source answered in time; "
    "shed when it was refused for overload; limited when its client was over a limit; not_reached when the primary has "
    "no version as high as was asked for; key_required when it came without a key and this installation shows nothing "
    "without one; wrong_key when the lookup key does not open the dossier.",
    ["source", "outcome"],
)
REFRESHES = Counter(
    "lookup_refreshes_total",
    "Background refreshes, begun because an answered copy was older than half its soft age. outcome is done, or "
    "unavailable when no source answered.",
    ["outcome"],
)
FILL_LOSSES = Counter("lookup_fills_lost_total", "Loaded records not stored because Redis already had a newer version.")
FILL_SKIPS = Counter("lookup_fills_skipped_total", "Batches not stored in Redis because it could not be reached.")
BATCH_SIZE = Histogram(
    "lookup_batch_size",
    "Dossiers or official numbers read in one round trip. dependency is redis for reading copies, postgres for a load "
    "from the preferred host, primary for a load that only the primary may answer.",
    ["dependency"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
UNREADABLE = Counter("lookup_unreadable_entries_total", "Cached values that could not be parsed and were ignored.")
ISSUED_UNSEEN = Counter(
    "lookup_issued_unseen_total",
    'Lookups with a valid key that a cached "none" denied; PostgreSQL was queried.',
)
AGE_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400)
ANSWER_AGE = Histogram(
    "lookup_answer_age_seconds",
    "Age of the answers: time since the answered record was known to be current.",
    buckets=AGE_BUCKETS,
)
FRESHNESS_SLICES = Counter(
    "lookup_freshness_slices_total",
    "Slices of ten seconds in which this process was ready. verdict is fresh when no heartbeat was over a second late, "
    "otherwise late.",
    ["verdict"],
)
FEED_AGE = Gauge(
    "lookup_feed_age_seconds", "Age of the newest heartbeat read from the change stream, by PostgreSQL's clock."
)
DISTRUSTS = Counter(
    "lookup_distrusts_total",
    "Times all copies in memory had to be verified again because changes may have been missed. reason is join when "
    "this process starts to follow the stream, lost when the stream could not be read for a while, gap when an entry "
    "does not follow the previous one, stream when another stream has begun, epoch when another epoch has.",
    ["reason"],
)
STANDBY_LAG = Gauge(
    "lookup_standby_lag_seconds",
    "Age of the newest heartbeat a standby has, by PostgreSQL's clock; 0 for a primary and for an unreachable host. "
    "dependency as in hoso24_dependency_seconds.",
    ["dependency"],
)
EPOCH = Gauge("lookup_epoch", "The epoch this process reads in; `hoso24 cache renew` begins a new one.")
MEMORY_COPIES = Gauge("lookup_memory_copies", "Copies of dossiers in process memory.")
MEMORY_BYTES = Gauge("lookup_memory_bytes", "Size of the copies in process memory, in bytes.")
SHEDDING = Gauge(
    "lookup_shedding_level",
    "What is refused for overload now: 0 nothing, 1 batches, 2 also codes that no cache holds, 3 everything that is "
    "not in process memory.",
)
SHED = Counter(
    "lookup_shed_total",
    "Requests refused for overload. load is batch for a list of dossiers or a refresh, unknown for a code no cache "
    "holds, cold for a code that is not in process memory.",
    ["load"],
)
LIMITED = Counter(
    "lookup_limited_total",
    "Lookups refused with 429. rate is the allowance that was exceeded: missing for codes that do not exist, wrong_key "
    "for lookup keys that do not match, primary for queries only the primary may answer, rating for ratings of the "
    "pages, which are no lookups. The others are for networks that were shown too many dossiers without their keys: "
    "home and home_prefix an IPv6 /64, site and site_prefix a /56, network and network_prefix an IPv4 address or a "
    "/48, region and region_prefix a /24 or a /40; with _prefix too many of one agency and day.",
    ["rate"],
)
DISCLOSED = Counter(
    "lookup_disclosed_total",
    "Dossiers shown without their key, each counted once for each address that asks.",
)
LIMITS_SHARED = Counter(
    "lookup_limits_shared_total",
    "Exchanges with other processes, through Redis, of networks that have used much of an allowance. outcome is done, "
    "or unavailable when Redis could not be reached: until then each process limits by itself.",
    ["outcome"],
)
WRONG_KEYS = Counter(
    "lookup_wrong_keys_total",
    "Lookup keys that did not open the dossier. reason is forged for one that was never issued for it, superseded for "
    "one that was replaced by a newer one.",
    ["reason"],
)

RATINGS = Counter(
    "lookup_ratings_total",
    "Ratings of the status pages by citizens. status is that of the dossier whose page was rated; score is "
    "very_satisfied, satisfied or not_satisfied.",
    ["status", "score"],
)


@functools.cache
def batch_size(dependency: str) -> Histogram:
    """The histogram of this label, cached like `answers`."""
    return BATCH_SIZE.labels(dependency)


@functools.cache
def answers(source: str, outcome: str) -> Counter:
    """The counter of these labels, cached: there are few, and each look-up takes a lock."""
    return ANSWERS.labels(source, outcome)


@functools.cache
def limited(rate: str) -> Counter:
    """The counter of this label, cached like `answers`."""
    return LIMITED.labels(rate)
