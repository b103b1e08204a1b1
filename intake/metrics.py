"""Every metric of intake and relay, declared once."""

from prometheus_client import Counter, Gauge, Histogram

DOSSIERS_RECEIVED = Counter(
    "intake_dossiers_received_total", "Dossiers received. channel is direct, online or postal.", ["channel"]
)
MOVES = Counter(
    "intake_moves_total",
    "Moves of dossiers. status is the new status: received, processing ….",
    ["status"],
)
REPLAYS = Counter("intake_replays_total", "Repeated requests that got the stored answer of their idempotency key.")
OUTCOMES_UNKNOWN = Counter(
    "intake_outcomes_unknown_total",
    "Requests whose transaction had not ended at the deadline; their clients got outcome_unknown.",
)

RELAY_LEADER = Gauge("relay_leader", "1 while this relay is the leader and delivers, 0 while it is on standby.")
RELAY_HALTED = Gauge(
    "relay_halted",
    "1 while the relay delivers nothing because PostgreSQL seems to have gone back in time; its log says what is lost.",
)
RELAY_DELIVERED = Counter("relay_changes_delivered_total", "Changes appended to the stream.")
RELAY_RESUMED = Counter(
    "relay_resumed_total",
    "Times the relay read from Redis where the stream ends. reason is leader after it became the leader, epoch after a "
    "new epoch began, moved after another relay delivered, redis after Redis was unavailable, halted after PostgreSQL "
    "seemed to have gone back in time.",
    ["reason"],
)
RELAY_LAG = Gauge("relay_lag_seconds", "Age of the last heartbeat when it was delivered, by the database's clock.")
RELAY_BACKLOG = Gauge(
    "relay_backlog_seconds", "Age of the oldest change in the log that is not delivered yet; 0 if all are delivered."
)
OLDEST_WRITER = Gauge(
    "relay_oldest_writer_seconds",
    "Time since the relay first saw the oldest open writing transaction of the server; changes made since that "
    "transaction began are delivered after it ends.",
)
RELAY_BATCH = Histogram("relay_batch_changes", "Changes per delivered batch.", buckets=(1, 2, 5, 10, 50, 100, 250, 500))
