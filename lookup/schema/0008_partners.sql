-- What partners send, follow and are told: lines that were refused, webhooks, the sandbox's turn; and how far the relay
-- has delivered, by which a synchronisation waits.

ALTER TABLE heartbeat ADD COLUMN delivered_at timestamptz;
COMMENT ON COLUMN heartbeat.delivered_at IS 'All that was recorded until then is delivered; null: this relay does not say.';

-- What a new epoch says to those that follow the log: the last event that old and new books have in common.
ALTER TABLE epoch
    ADD COLUMN resume_xid  xid8,
    ADD COLUMN resume_seq  bigint,
    ADD COLUMN lost_since  timestamptz;
COMMENT ON COLUMN epoch.resume_xid IS 'With resume_seq the last event that this epoch and the one before have in common; null: none, or not known.';
COMMENT ON COLUMN epoch.lost_since IS 'Events recorded from then until this epoch began may be lost.';

CREATE TABLE dead_letter (
    n                bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    client           text        NOT NULL REFERENCES client,
    source_event_id  text        NOT NULL,            -- the client's id of the line
    line             text        NOT NULL,            -- as sent, its first 64 KiB; it names persons
    error            text        NOT NULL,            -- the code of the refusal
    detail           text        NOT NULL,
    seen             integer     NOT NULL DEFAULT 1,
    first_at         timestamptz NOT NULL DEFAULT now(),
    last_at          timestamptz NOT NULL DEFAULT now(),
    closed_at        timestamptz,                     -- applied later, or given up
    CONSTRAINT letter_is_kept_once_per_line  UNIQUE (client, source_event_id),
    CONSTRAINT letter_was_seen               CHECK (seen >= 1),
    CONSTRAINT letter_fits_its_line          CHECK (octet_length(line) <= 65536)
);
CREATE INDEX dead_letter_by_age ON dead_letter (last_at);    -- letters older than thirty days are deleted

CREATE TABLE webhook (
    id            text        PRIMARY KEY,
    client        text        NOT NULL REFERENCES client,
    url           text        NOT NULL,
    agency        text        COLLATE "C" REFERENCES agency,  -- narrower than the client's scope; null: all of it
    mine          boolean     NOT NULL DEFAULT false,  -- the client's own submissions only
    bulk          boolean     NOT NULL DEFAULT true,
    format        text        NOT NULL DEFAULT 'standard',
    generation    integer     NOT NULL DEFAULT 1,     -- of its keys, which are derived and not stored
    rotated_at    timestamptz,                        -- the generation before signs too for a day
    state         text        NOT NULL DEFAULT 'unproven',
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- The last event that was taken, and the last of the page under way, which is written before it is sent.
    epoch         integer     NOT NULL,
    xid           xid8        NOT NULL,
    seq           bigint      NOT NULL,
    page_end      text,                               -- a cursor; null: no page is under way
    attempt       smallint    NOT NULL DEFAULT 0,     -- failures in a row
    next_at       timestamptz NOT NULL DEFAULT now(),
    lease_until   timestamptz,
    lease_token   bigint      NOT NULL DEFAULT 0,     -- rises with each lease: who holds an older one saves nothing
    succeeded_at  timestamptz,
    failed_at     timestamptz,
    last_error    text,
    CONSTRAINT webhook_id_is_a_word      CHECK (id ~ '^[a-z0-9]{8,40}$'),
    CONSTRAINT webhook_url_is_short      CHECK (length(url) BETWEEN 1 AND 2000),
    CONSTRAINT webhook_format_is_known   CHECK (format IN ('standard', 'national')),
    CONSTRAINT webhook_state_is_known    CHECK (state IN ('unproven', 'active', 'paused', 'unreachable', 'gone')),
    CONSTRAINT generations_count_from_one CHECK (generation >= 1),
    CONSTRAINT attempts_are_counted      CHECK (attempt >= 0)
);
CREATE INDEX webhook_of_client ON webhook (client);
CREATE INDEX webhook_when_due  ON webhook (next_at) WHERE state IN ('unproven', 'active');

-- Which intake moves the sandbox's dossiers; one at a time.
CREATE TABLE sandbox_lease (
    one          boolean     PRIMARY KEY DEFAULT true,
    lease_until  timestamptz NOT NULL,
    lease_token  bigint      NOT NULL,
    CONSTRAINT there_is_one_sandbox CHECK (one)
) WITH (fillfactor = 10);
INSERT INTO sandbox_lease (lease_until, lease_token) VALUES (now(), 0);

GRANT UPDATE (delivered_at) ON heartbeat TO hoso24_relay;
GRANT SELECT, INSERT, UPDATE ON dead_letter TO hoso24_writer;
GRANT SELECT (client, last_at) ON dead_letter TO hoso24_archivist;
GRANT DELETE ON dead_letter TO hoso24_archivist;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook TO hoso24_writer;
GRANT SELECT ON sandbox_lease TO hoso24_writer;
GRANT UPDATE (lease_until, lease_token) ON sandbox_lease TO hoso24_writer;

-- It talks to strangers' servers: it reads no applicant, no officer's name, no note, and where it sends to is not its own
-- to say.
GRANT USAGE ON SCHEMA hoso24 TO hoso24_webhooks;
GRANT SELECT ON schema_version, epoch, agency TO hoso24_webhooks;
GRANT SELECT (id, agency, actions, sandbox, disabled_at) ON client TO hoso24_webhooks;
GRANT SELECT (code, service) ON dossier TO hoso24_webhooks;
GRANT SELECT (xid, seq, epoch, code, version, kind, format, bulk, occurred_at, recorded_at, source, source_event_id, source_seq,
              flags, submitted_by, came_from, step_status, task, paper, status, agency, origin, owner, outcome, received_at, due_at,
              finished_at, returned_at, calendar, pauses, supplements, reappointments, key_serial, service, service_case, channel,
              submitted_at, person, official_number, erased, seal)
    ON event TO hoso24_webhooks;
GRANT SELECT ON webhook TO hoso24_webhooks;
GRANT UPDATE (generation, rotated_at, state, epoch, xid, seq, page_end, attempt, next_at, lease_until, lease_token, succeeded_at,
              failed_at, last_error)
    ON webhook TO hoso24_webhooks;
