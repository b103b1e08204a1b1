-- The event log: what the row of a dossier follows, the entries of the books, and the change feed's input. There is no
-- other log. It is only ever appended to; an erasure empties the last columns of a row and nothing else.

CREATE TABLE epoch (
    number      integer     PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT now(),
    reason      text        NOT NULL
);
COMMENT ON TABLE epoch IS 'A new epoch begins when the database has gone back in time; caches, feed and books carry its number.';
INSERT INTO epoch (number, reason) VALUES (1, 'first start');

-- What the columns mean together, and as which bytes they are sealed: intake/books/seal.py.
CREATE TABLE event (
    xid              xid8        NOT NULL DEFAULT pg_current_xact_id(),
    seq              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,  -- has holes, and is not commit order
    epoch            integer     NOT NULL,            -- of table epoch; no foreign key, it would cost a look-up per event
    code             text        COLLATE "C" NOT NULL,
    version          integer     NOT NULL,
    kind             text        NOT NULL,
    format           smallint    NOT NULL DEFAULT 2,
    bulk             boolean     NOT NULL DEFAULT false,   -- of a dossier made in the same transaction: no cache knows it
    occurred_at      timestamptz NOT NULL,            -- as the source says
    recorded_at      timestamptz NOT NULL,            -- by the database's clock
    source           text        NOT NULL,            -- the client, or 'import'
    source_event_id  text,
    source_seq       bigint,                          -- in the source's own order
    flags            text[],                          -- by_import, not_in_timeline …
    submitted_by     text,
    came_from        text        COLLATE "C",         -- the holder before; null: the same
    step_status      smallint,                        -- what an event told that did not change the status
    task             smallint,
    paper            bytea,                           -- SHA-256 of a paper that the event issued
    -- The dossier after the event.
    status           smallint    NOT NULL,
    agency           text        COLLATE "C" NOT NULL,
    origin           text        COLLATE "C" NOT NULL,
    owner            text,
    outcome          text,
    received_at      timestamptz,
    due_at           timestamptz,
    finished_at      timestamptz,
    returned_at      timestamptz,
    calendar         text,
    pauses           text,                            -- JSON; null: unchanged
    supplements      smallint    NOT NULL DEFAULT 0,
    reappointments   smallint    NOT NULL DEFAULT 0,
    key_serial       smallint    NOT NULL DEFAULT 0,
    -- In the first event, and in a correction that changes them.
    service          text        COLLATE "C",
    service_case     text,
    channel          text,
    submitted_at     timestamptz,
    person           bytea,                           -- salted SHA-256 of applicant and subject
    -- May be erased: sealed by a salted digest only.
    note             text,
    detail           text,                            -- JSON: what was asked for, what was corrected
    actor            text,                            -- the client, or the officer the client names; never public
    department       text,
    official_number  text        COLLATE "C",
    salt             bytea,
    erased           bytea,                           -- the digest of what was erased
    seal             bytea       NOT NULL,            -- by a key that this database never sees
    PRIMARY KEY (code, version),
    CONSTRAINT event_versions_start_at_one        CHECK (version >= 1),
    CONSTRAINT event_kind_is_known                CHECK (kind IN (
        'received', 'moved', 'noted', 'number_bound', 'corrected', 'key_reissued', 'owner_changed',
        'due_changed', 'led_by', 'task_opened', 'task_ended', 'paper_issued', 'removed')),
    CONSTRAINT event_format_is_known              CHECK (format = 2),
    CONSTRAINT first_event_is_the_reception       CHECK ((kind = 'received') = (version = 1)),
    CONSTRAINT reception_says_what_came_in        CHECK (kind <> 'received' OR num_nonnulls(service, service_case, channel, submitted_at, person) = 5),
    CONSTRAINT only_corrections_say_it_again      CHECK (kind IN ('received', 'corrected') OR num_nonnulls(service, service_case, channel, submitted_at, person) = 0),
    CONSTRAINT event_status_is_national           CHECK (status BETWEEN 1 AND 10 AND step_status BETWEEN 1 AND 10),
    CONSTRAINT event_outcome_is_known             CHECK (outcome IN ('granted', 'refused', 'partly')),
    CONSTRAINT number_is_there_when_bound         CHECK (kind <> 'number_bound' OR official_number IS NOT NULL OR erased IS NOT NULL),
    CONSTRAINT only_some_kinds_bind_a_number      CHECK (kind IN ('number_bound', 'corrected') OR official_number IS NULL),
    CONSTRAINT event_is_sealed                    CHECK (length(seal) = 16),
    CONSTRAINT digests_are_sha256                 CHECK (length(person) = 32 AND length(paper) = 32 AND length(erased) = 32),
    CONSTRAINT event_has_a_salt_until_it_is_erased CHECK ((erased IS NULL) = (salt IS NOT NULL) AND length(salt) = 16),
    CONSTRAINT erased_event_has_no_content        CHECK (erased IS NULL OR num_nonnulls(note, detail, actor, department, official_number) = 0),
    CONSTRAINT source_event_is_recorded_once      UNIQUE (source, source_event_id)
);

-- The order of relay, feed and books. Two indexes: relay and feed pass over bulk events.
CREATE INDEX event_in_commit_order      ON event (epoch, xid, seq) WHERE NOT bulk;
CREATE INDEX event_bulk_in_commit_order ON event (epoch, xid, seq) WHERE bulk;
CREATE INDEX event_by_age               ON event USING brin (recorded_at);

CREATE TABLE heartbeat (
    one  boolean     PRIMARY KEY DEFAULT true,
    at   timestamptz NOT NULL,
    xid  xid8        NOT NULL,
    CONSTRAINT there_is_one_heartbeat CHECK (one)
) WITH (fillfactor = 10);                              -- one row, rewritten every second, in place
INSERT INTO heartbeat (at, xid) VALUES (now(), pg_current_xact_id());

-- What the auditor compares the applicant of a row with, without a right to read one: the digest of the row's applicant
-- by the salt of the last event that names one.
CREATE VIEW dossier_person AS
SELECT dossier.code, named.version,
       sha256(named.salt || convert_to(jsonb_build_array(applicant_kind, applicant_name, applicant_id, applicant_phone,
                                                         applicant_email, applicant_address, subject)::text, 'UTF8')) AS digest
  FROM dossier
 CROSS JOIN LATERAL (SELECT version, salt
                       FROM event
                      WHERE event.code = dossier.code
                        AND person IS NOT NULL
                      ORDER BY version DESC
                      LIMIT 1) AS named
 WHERE NOT removed;
