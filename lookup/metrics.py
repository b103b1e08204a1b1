"""Every metric of the lookup, declared once."""

from prometheus_client import Counter, Gauge, Histogram

ANSWERS = Counter(
    "lookup_answers_total",
    "Dossiers looked up, by where the answer came from and what it was. The labels partition the outcomes: "
    "source redis, postgres or nowhere; outcome found, missing, stale or unavailable.",
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
ANSWER_AGE = Histogram(
    "lookup_answer_age_seconds",
    "Age of what was answered: how long ago it was certainly the truth.",
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600, 86400),
)
FEED_AGE = Gauge("lookup_feed_age_seconds", "Age of the newest heartbeat seen in the cache, by the database's clock.")
EPOCH = Gauge("lookup_epoch", "The epoch this process reads in.")
WRONG_KEYS = Counter("lookup_wrong_keys_total", "Lookup keys that did not open the dossier, by reason.", ["reason"])
