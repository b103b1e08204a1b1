"""Every metric of intake, relay, notary, webhooks, notices and desk, declared once."""

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
CLIENTS_LIMITED = Counter(
    "intake_clients_limited_total",
    "Requests of clients refused with 429. budget is the one that was used up: write for changes, read for reads, sync "
    "for lines of a synchronisation.",
    ["budget"],
)
OUTCOMES_UNKNOWN = Counter(
    "intake_outcomes_unknown_total",
    "Requests whose transaction had not ended at the deadline; their clients got outcome_unknown.",
)
SYNC_LINES = Counter(
    "intake_sync_lines_total",
    "Lines of synchronisations. outcome is applied, created, duplicate, kept, rejected or not_done.",
    ["outcome"],
)
SYNC_NOT_DONE = Counter(
    "intake_sync_not_done_total",
    "Lines of synchronisations that were not done. reason is database_away, relay_behind when the relay had not "
    "delivered for ten seconds, client_limit, too_long for a body beyond its limits, or outcome_unknown.",
    ["reason"],
)
for _reason in ("database_away", "relay_behind", "client_limit", "too_long", "outcome_unknown"):
    SYNC_NOT_DONE.labels(_reason)  # from the start, so that the first one is an increase
SYNC_BATCH = Histogram(
    "intake_sync_batch_seconds",
    "Seconds of a transaction with up to 100 lines of a synchronisation.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0),
)
SYNC_PAUSED = Counter(
    "intake_sync_paused_seconds_total", "Seconds for which synchronisations waited, because the relay was behind."
)

DEAD_LETTERS = Gauge(
    "intake_dead_letters",
    "Lines of synchronisations that were refused and neither applied later nor given up. Counted once a minute.",
)
OLDEST_DEAD_LETTER = Gauge(
    "intake_oldest_dead_letter_seconds",
    "Time since the oldest of these lines was refused first; 0 if there is none. Counted once a minute.",
)

FEED_WAITERS = Gauge("intake_feed_waiters", "Requests that wait for the next change that concerns their client.")
FEED_PAGES = Counter(
    "intake_feed_pages_total",
    "Pages of changes that clients were given. source is memory for the end of the log that the process keeps while "
    "somebody waits, postgres for all others.",
    ["source"],
)
FEED_ROWS = Counter("intake_feed_rows_total", "Rows of the log that were looked at for pages of changes.")
FEED_LAG = Histogram(
    "intake_feed_lag_seconds",
    "Time from the recording of a change to its reading for those who wait, for the oldest of each reading. Open "
    "transactions of others count: changes behind them wait.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
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
RELAY_PRIMARY_REACHABLE = Gauge(
    "relay_primary_reachable",
    "1 while PostgreSQL's primary answers this relay, 0 when it cannot be reached or refuses: then no relay can lead.",
)
RELAY_LAG = Gauge(
    "relay_lag_seconds",
    "Seconds since the moment up to which the leader has delivered everything, which its last delivered heartbeat "
    "tells: up to about one while all is well, growing while nothing is delivered, for whatever reason. On standby, "
    "seconds since this relay saw that another one holds the lock; without PostgreSQL that grows too.",
)
RELAY_BACKLOG = Gauge(
    "relay_backlog_seconds",
    "Age of the oldest change in the log that the leader has not delivered yet; 0 if all are delivered. Only the "
    "leader measures it, once it has read from Redis where the stream ends; any other relay reports 0.",
)
OLDEST_WRITER = Gauge(
    "relay_oldest_writer_seconds",
    "Time since the relay first saw the oldest open writing transaction of the server; changes made since that "
    "transaction began are delivered after it ends.",
)
WRITER = Gauge(
    "relay_writer_seconds",
    "Time since the relay first saw this writing transaction, for each that has been open for two seconds. pid, role "
    "and application name its session; role is prepared for a prepared transaction, which has none.",
    ["pid", "role", "application"],
)
READERS_ENDED = Counter(
    "relay_readers_ended_total",
    "Sessions of the lookups' role that held a transaction id, which no lookup does, and were ended.",
)
RELAY_BATCH = Histogram("relay_batch_changes", "Changes per delivered batch.", buckets=(1, 2, 5, 10, 50, 100, 250, 500))

NOTARY_SIZE = Gauge(
    "notary_tree_size", "Entries of the signed tree: one for each event of the log, and one for each turn."
)
NOTARY_BEHIND = Gauge(
    "notary_behind_seconds",
    "Age of the oldest event in the log that the books do not have yet; 0 when they have all.",
)
NOTARY_REFUSED = Counter(
    "notary_refused_total",
    "Events that no seal key fits: they were written past the intake, or altered before they were entered. The books "
    "have each as a refused entry, and the log names it.",
)
NOTARY_HALTED = Gauge(
    "notary_halted",
    "1 while the notary enters nothing because the files, the database or the keys do not fit what was signed; its log "
    "says what, and how to go on.",
)
NOTARY_SIGNATURE_AGE = Gauge(
    "notary_signature_age_seconds",
    "Seconds since the notary signed; it does every minute, and after every batch of events.",
)

WEBHOOKS = Gauge(
    "webhooks_subscriptions",
    "Webhooks by state: unproven before their receiver answered a ping, active, paused after all attempts at a page "
    "failed, unreachable when the ping failed, gone when the receiver wants no more. Each process counts all of them "
    "but for those of disabled clients and of the sandbox.",
    ["state"],
)
WEBHOOKS_FAILING = Gauge("webhooks_failing", "Active webhooks whose last attempt failed; they are tried again.")
WEBHOOKS_BEHIND = Gauge(
    "webhooks_behind_seconds",
    "Longest time that a webhook whose receiver is not failing waits for us: since its next event was recorded, or "
    "since its receiver took the page before, whichever is later. Seconds while all is well, as receivers are slow.",
)
WEBHOOKS_SERVING = Gauge("webhooks_serving", "Webhooks that this process is serving now.")
WEBHOOK_ATTEMPTS = Counter(
    "webhooks_attempts_total",
    "Attempts at a delivery or ping. outcome is delivered (2xx), failed, timed_out, gone (410), or lease_over: this "
    "process was stopped for so long that another one may hold the webhook, and sent nothing.",
    ["outcome"],
)
WEBHOOK_EVENTS = Counter("webhooks_events_delivered_total", "Events in pages that their receivers took.")
WEBHOOK_SECONDS = Histogram(
    "webhooks_attempt_seconds",
    "Time of an attempt, from looking up the name to the answer.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)
WEBHOOK_DELAY = Histogram(
    "webhooks_delay_seconds",
    "From the moment a page's first event was recorded until the receiver took the page.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600, 86_400),
)

NOTICES = Counter(
    "notices_attempts_total",
    "Notices to citizens that were handled. channel is mail or gateway; outcome is sent, failed (tried again later), "
    "dead after a refusal for good or two days, or superseded: it would have told of the past.",
    ["channel", "outcome"],
)
for _channel in ("mail", "gateway"):
    for _outcome in ("sent", "failed", "dead", "superseded"):
        NOTICES.labels(_channel, _outcome)  # from the start, so that the first one is an increase
NOTICES_SERVING = Gauge("notices_serving", "Notices that this process is handing over now.")
NOTICES_FAILING = Gauge("notices_failing", "Notices whose last attempt failed; they are tried again.")
NOTICES_BEHIND = Gauge(
    "notices_behind_seconds",
    "Longest time that something waits for us: an event until it is looked at, or a notice until its first attempt. By "
    "night those for the gateway do not count.",
)
NOTICE_DELAY = Histogram(
    "notices_delay_seconds",
    "From the moment an event was recorded until a server took the notice of it.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 300, 3600, 43_200, 172_800),
)
MORNING_MAILS = Counter(
    "notices_morning_mails_total",
    "Mails to heads of units about what is late. outcome is sent, failed (tried again until noon) or dead.",
    ["outcome"],
)
for _outcome in ("sent", "failed", "dead"):
    MORNING_MAILS.labels(_outcome)
RATINGS = Counter(
    "notices_ratings_total",
    "Ratings of the citizens' pages that were added to the table. score is very_satisfied, satisfied or not_satisfied.",
    ["score"],
)
for _score in ("very_satisfied", "satisfied", "not_satisfied"):
    RATINGS.labels(_score)

DESK_SIGN_INS = Counter(
    "desk_sign_ins_total",
    "Sign-ins of officers. outcome is signed_in, refused for what did not prove who it is, unknown for a subject that "
    "is no officer, or provider_away.",
    ["outcome"],
)
for _outcome in ("signed_in", "refused", "unknown", "provider_away"):
    DESK_SIGN_INS.labels(_outcome)  # from the start, so that the first one is an increase
