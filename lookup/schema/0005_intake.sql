-- What intake remembers besides dossiers: its clients, their repeats, the day's numbers, imports under way, and who has
-- read personal data.

CREATE TABLE client (
    id           text        PRIMARY KEY,
    name         text        NOT NULL,
    agency       text        COLLATE "C" NOT NULL REFERENCES agency,   -- scope: this agency and all below it
    actions      text[]      NOT NULL,
    sandbox      boolean     NOT NULL DEFAULT false,  -- sees and writes made-up dossiers only
    disabled_at  timestamptz,
    CONSTRAINT client_id_is_a_word      CHECK (id ~ '^[a-z0-9-]{1,40}$'),
    CONSTRAINT client_actions_are_known CHECK (actions <@ ARRAY['receive', 'move', 'bind', 'read', 'correct', 'sync', 'follow']
                                               AND actions <> '{}')
);

-- Two at a time at most are in force, so that a client can change over without a pause; the command sees to it.
CREATE TABLE client_token (
    client        text        NOT NULL REFERENCES client,
    n             smallint    NOT NULL,
    token_hash    bytea       NOT NULL,               -- SHA-256 of 256 random bits, so no slow hash is needed
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_on  date,
    PRIMARY KEY (client, n),
    CONSTRAINT tokens_are_unique        UNIQUE (token_hash),
    CONSTRAINT tokens_count_from_one    CHECK (n >= 1),
    CONSTRAINT token_hash_is_sha256     CHECK (length(token_hash) = 32),
    CONSTRAINT token_expires_after_it_is_made CHECK (expires_at > created_at)
);

CREATE TABLE idempotency (
    client       text        NOT NULL REFERENCES client,
    key          text        NOT NULL,
    fingerprint  bytea       NOT NULL,                -- of the request as sent; another one under the same key is refused
    answer       jsonb       NOT NULL,                -- without the lookup key, which is made anew from the code
    first_at     timestamptz NOT NULL DEFAULT now(),
    replays      integer     NOT NULL DEFAULT 0,      -- a replay answers only after this write of its own has committed
    PRIMARY KEY (client, key),
    CONSTRAINT idempotency_key_is_short CHECK (length(key) BETWEEN 1 AND 255)
);
CREATE INDEX idempotency_by_age ON idempotency (first_at);    -- answers older than thirty days are deleted

CREATE TABLE daily_sequence (
    agency  text     COLLATE "C" NOT NULL REFERENCES agency,
    day     date     NOT NULL,                        -- local date (UTC+7) of reception; 1 January for yearly schemes
    last    bigint   NOT NULL,
    PRIMARY KEY (agency, day),
    CONSTRAINT sequence_counts_from_one CHECK (last >= 1)
);

CREATE TABLE import_run (
    file          bytea       PRIMARY KEY,            -- SHA-256 over the file's size and first bytes
    name          text        NOT NULL,
    position      bigint      NOT NULL,               -- bytes of the file that are committed
    line          bigint      NOT NULL,
    taken         bigint      NOT NULL,
    appended      bigint      NOT NULL,               -- stored dossiers that got further steps
    already_here  bigint      NOT NULL,
    rejected      bigint      NOT NULL,
    reasons       jsonb       NOT NULL,               -- reason → lines
    reject_bytes  bigint      NOT NULL,               -- length of the reject file at this point
    key_bytes     bigint      NOT NULL,               -- length of the key file at this point
    started_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);

-- Written before the answer, so that nobody reads without a row here. Only the auditor reads it.
CREATE TABLE personal_read (
    at      timestamptz NOT NULL DEFAULT now(),
    reader  text        NOT NULL,                     -- the officer the client names, or the client itself
    client  text        NOT NULL,
    code    text        COLLATE "C" NOT NULL,
    screen  text        NOT NULL                      -- what was shown
);
CREATE INDEX personal_read_by_time ON personal_read USING brin (at);
