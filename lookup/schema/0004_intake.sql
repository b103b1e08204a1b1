-- What intake remembers besides dossiers: its clients, their repeats, the day's numbers, imports under way.

CREATE TABLE client (
    id          text        PRIMARY KEY,
    name        text        NOT NULL,
    token_hash  bytea       NOT NULL,                 -- SHA-256 of 256 random bits, so no slow hash is needed
    agency      text        COLLATE "C" NOT NULL REFERENCES agency,   -- scope: this agency and all below it
    actions     text[]      NOT NULL,
    valid_from  timestamptz NOT NULL DEFAULT now(),
    valid_to    timestamptz,
    CONSTRAINT token_hash_is_sha256     CHECK (length(token_hash) = 32),
    CONSTRAINT client_actions_are_known CHECK (actions <@ ARRAY['receive', 'move', 'bind', 'read'] AND actions <> '{}')
);

CREATE TABLE idempotency (
    client       text        NOT NULL REFERENCES client,
    key          text        NOT NULL,
    fingerprint  bytea       NOT NULL,                -- of the request; another one under the same key is refused
    answer       jsonb       NOT NULL,                -- without the lookup key, which is made anew from the code
    first_at     timestamptz NOT NULL DEFAULT now(),
    replays      integer     NOT NULL DEFAULT 0,      -- a replay answers only after this write of its own has committed
    PRIMARY KEY (client, key),
    CONSTRAINT idempotency_key_is_short CHECK (length(key) BETWEEN 1 AND 255)
);
CREATE INDEX idempotency_by_age ON idempotency USING brin (first_at);

CREATE TABLE daily_sequence (
    agency  text     COLLATE "C" NOT NULL REFERENCES agency,
    day     date     NOT NULL,                        -- local date (UTC+7) of reception; 1 January for yearly schemes
    last    integer  NOT NULL,
    PRIMARY KEY (agency, day),
    CONSTRAINT sequence_counts_from_one CHECK (last >= 1)
);

CREATE TABLE import_run (
    file          bytea       PRIMARY KEY,            -- SHA-256 over the file's size and first bytes
    name          text        NOT NULL,
    position      bigint      NOT NULL,               -- bytes of the file that are committed
    line          bigint      NOT NULL,
    taken         bigint      NOT NULL,
    already_here  bigint      NOT NULL,
    rejected      bigint      NOT NULL,
    reject_bytes  bigint      NOT NULL,               -- length of the reject file at this point
    key_bytes     bigint      NOT NULL,               -- length of the key file at this point
    started_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);
