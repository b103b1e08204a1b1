"""Every metric of intake and relay, declared once."""

from prometheus_client import Counter, Gauge, Histogram

DOSSIERS_RECEIVED = Counter(
    "intake_dossiers_received_total", "Dossiers taken in. channel is direct, online or postal.", ["channel"]
)
MOVES = Counter(
    "intake_moves_total",
    "Dossiers moved. status is the one they took, by its word: received, processing ….",
    ["status"],
)
REPLAYS = Counter("intake_replays_total", "Requests answered again from their idempotency key.")
OUTCOMES_UNKNOWN = Counter(
    "intake_outcomes_unknown_total",
    "Requests that met their deadline while the database was still committing.",
)

RELAY_LEADER = Gauge("relay_leader", "1 while this process is the relay that delivers, 0 while it stands by.")
RELAY_HALTED = Gauge(
    "relay_halted", "1 while the relay refuses to go on because Postgres has gone back in time; see the log."
)
RELAY_DELIVERED = Counter("relay_changes_delivered_total", "Changes appended to the stream.")
RELAY_RESUMED = Counter(
    "relay_resumed_total",
    "Times the relay asked the stream where it ends. reason is leader when it has become the leader, epoch when a "
    "new one has begun, moved when another relay had delivered meanwhile, redis when Redis could not be asked, halted "
    "when Postgres seemed to have gone back in time.",
    ["reason"],
)
RELAY_LAG = Gauge("relay_lag_seconds", "Age of the last heartbeat delivered, by the database's clock.")
RELAY_BACKLOG = Gauge(
    "relay_backlog_seconds", "Age of the oldest change in the log that is not in the stream yet; 0 when there is none."
)
OLDEST_WRITER = Gauge(
    "relay_oldest_writer_seconds",
    "For how long the oldest writing transaction of the whole server has been seen open: no change that came after its "
    "beginning can be delivered before it ends.",
)
RELAY_BATCH = Histogram("relay_batch_changes", "Changes per delivered batch.", buckets=(1, 2, 5, 10, 50, 100, 250, 500))
