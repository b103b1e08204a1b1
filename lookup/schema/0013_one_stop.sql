-- What a one-stop office has of its own: papers and their numbers, officers and their desks, notices to citizens, public
-- figures, and holds. None of it follows the log by trigger; `hoso24 audit verify` compares the papers with it.

-- A paper is what it says: the page is made anew from it whenever it is printed. The event that issued it holds the digest,
-- so a row that no event tells of is no paper.
CREATE TABLE paper (
    agency        text        COLLATE "C" NOT NULL REFERENCES agency,
    form          text        NOT NULL,
    year          smallint    NOT NULL,
    number        integer     NOT NULL,
    code          text        COLLATE "C" NOT NULL REFERENCES dossier,
    version       integer     NOT NULL,               -- of the event that issued it
    form_version  text        NOT NULL,
    content       jsonb,                              -- names persons; null: erased
    digest        bytea       NOT NULL,               -- SHA-256 of the canonical content
    stamp         bytea       NOT NULL,               -- Ed25519, by a key that this database never sees
    key_id        smallint    NOT NULL,
    issued_at     timestamptz NOT NULL,
    issued_by     text        NOT NULL,               -- source of its event: a client, or the desk
    erased_at     timestamptz,
    PRIMARY KEY (agency, form, year, number),
    CONSTRAINT paper_form_is_known          CHECK (form IN ('receipt', 'supplement', 'refusal', 'apology', 'stop', 'control')),
    CONSTRAINT papers_count_from_one        CHECK (number >= 1),
    CONSTRAINT paper_digest_is_sha256       CHECK (length(digest) = 32),
    CONSTRAINT paper_stamp_is_ed25519       CHECK (length(stamp) = 64),
    CONSTRAINT paper_key_fits_a_byte        CHECK (key_id BETWEEN 0 AND 255),
    CONSTRAINT erased_paper_has_no_content  CHECK ((content IS NULL) = (erased_at IS NOT NULL))
);
CREATE INDEX paper_of_dossier ON paper (code, version);

-- What the auditor compares a paper's digest with, without a right to read what it says: column `content` holds the JSON
-- that was hashed, as PostgreSQL writes it.
CREATE VIEW paper_digest AS
SELECT agency, form, year, number, sha256(convert_to(content::text, 'UTF8')) AS digest
  FROM paper
 WHERE content IS NOT NULL;

CREATE TABLE paper_sequence (
    agency  text     COLLATE "C" NOT NULL REFERENCES agency,
    form    text     NOT NULL,
    year    smallint NOT NULL,
    last    integer  NOT NULL,
    PRIMARY KEY (agency, form, year),
    CONSTRAINT paper_sequence_counts_from_one CHECK (last >= 1)
);

CREATE TABLE paper_print (
    agency  text        COLLATE "C" NOT NULL,
    form    text        NOT NULL,
    year    smallint    NOT NULL,
    number  integer     NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    by      text        NOT NULL,
    kind    text        NOT NULL,
    FOREIGN KEY (agency, form, year, number) REFERENCES paper,
    CONSTRAINT print_kind_is_known CHECK (kind IN ('first', 'again', 'sent'))
);
CREATE INDEX print_of_paper ON paper_print (agency, form, year, number);

-- What a desk finds applicants by. No foreign key: it is written in one statement with its dossier, and dossiers stay.
CREATE TABLE applicant_search (
    code          text        COLLATE "C" PRIMARY KEY,
    agency        text        COLLATE "C" NOT NULL,
    submitted_at  timestamptz NOT NULL,
    folded        text        COLLATE "C" NOT NULL,   -- the name in small letters without marks
    id_tail       text        COLLATE "C",            -- backwards, so that its end is found by a prefix
    phone_tail    text        COLLATE "C"
);
CREATE INDEX applicant_by_time  ON applicant_search (agency, submitted_at DESC) INCLUDE (folded, code);
CREATE INDEX applicant_by_id    ON applicant_search (agency, id_tail);
CREATE INDEX applicant_by_phone ON applicant_search (agency, phone_tail);

CREATE TABLE officer (
    issuer       text        NOT NULL,                -- of the sign-in; `local` in a trial
    subject      text        NOT NULL,
    name         text        NOT NULL,
    agency       text        COLLATE "C" NOT NULL REFERENCES agency,
    roles        text[]      NOT NULL,
    disabled_at  timestamptz,
    PRIMARY KEY (issuer, subject),
    CONSTRAINT officer_has_a_name      CHECK (length(name) BETWEEN 1 AND 200),
    CONSTRAINT officer_roles_are_known CHECK (roles <@ ARRAY['counter', 'specialist', 'head', 'auditor'] AND roles <> '{}')
);

CREATE TABLE desk_session (
    hash        bytea       PRIMARY KEY,              -- SHA-256 of the cookie, or of a one-time link's secret
    kind        text        NOT NULL DEFAULT 'session',
    issuer      text        NOT NULL,
    subject     text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    ends_at     timestamptz NOT NULL,
    FOREIGN KEY (issuer, subject) REFERENCES officer,
    CONSTRAINT session_kind_is_known  CHECK (kind IN ('session', 'link')),
    CONSTRAINT session_hash_is_sha256 CHECK (length(hash) = 32)
);
CREATE INDEX desk_session_by_end ON desk_session (ends_at);

-- A citizen's consent to be told. Not in the books: an address is personal, and changes without an event.
CREATE TABLE consent (
    code          text        COLLATE "C" NOT NULL REFERENCES dossier,
    channel       text        NOT NULL,
    address       text,                               -- null: erased
    given_at      timestamptz NOT NULL DEFAULT now(),
    given_by      text        NOT NULL,               -- who wrote it down: a client, or an officer
    withdrawn_at  timestamptz,
    PRIMARY KEY (code, channel),
    CONSTRAINT notice_channel_is_known CHECK (channel IN ('mail', 'gateway')),
    CONSTRAINT address_is_short        CHECK (length(address) BETWEEN 1 AND 320)
);

CREATE TABLE notice (
    code         text        COLLATE "C" NOT NULL REFERENCES dossier,
    version      integer     NOT NULL,                -- of the event it tells of
    channel      text        NOT NULL,
    kind         text        NOT NULL,
    state        text        NOT NULL DEFAULT 'due',
    tries        smallint    NOT NULL DEFAULT 0,
    made_at      timestamptz NOT NULL DEFAULT now(),
    next_at      timestamptz NOT NULL DEFAULT now(),
    lease_until  timestamptz,
    ended_at     timestamptz,
    last         text,                                -- the last answer, without the address
    PRIMARY KEY (code, version, channel),
    CONSTRAINT notice_goes_by_a_known_channel CHECK (channel IN ('mail', 'gateway')),
    CONSTRAINT notice_kind_is_known           CHECK (kind IN ('accepted', 'refused', 'supplement', 're_appointment', 'ready', 'returned')),
    CONSTRAINT notice_state_is_known          CHECK (state IN ('due', 'sent', 'dead', 'superseded')),
    CONSTRAINT notice_tries_are_counted       CHECK (tries >= 0),
    CONSTRAINT ended_notice_has_its_end       CHECK ((state <> 'due') = (ended_at IS NOT NULL))
);
CREATE INDEX notice_when_due ON notice (next_at) WHERE state = 'due';
CREATE INDEX notice_by_end   ON notice (ended_at) WHERE state <> 'due';    -- ended ones are deleted after ninety days

CREATE TABLE notice_cursor (
    one    boolean PRIMARY KEY DEFAULT true,
    epoch  integer NOT NULL,
    xid    xid8    NOT NULL,
    seq    bigint  NOT NULL,
    looked_back_in integer NOT NULL,                  -- the newest epoch at whose beginning it went back
    CONSTRAINT there_is_one_notice_cursor CHECK (one)
);

-- The mail that the head of a unit gets in the morning: a row per unit, about the last one.
CREATE TABLE morning_mail (
    agency       text        COLLATE "C" PRIMARY KEY REFERENCES agency,
    day          date        NOT NULL,                -- in Vietnam
    lease_until  timestamptz NOT NULL,                -- one process sends it, and the next one tries again after that
    ended_at     timestamptz                          -- sent, or refused for good
);

-- How citizens found the page, added up: no row says who.
CREATE TABLE rating (
    day       date     NOT NULL,                      -- in Vietnam
    language  text     NOT NULL,
    status    smallint NOT NULL,
    score     smallint NOT NULL,                      -- 1 not satisfied, 2 satisfied, 3 very satisfied
    n         bigint   NOT NULL,
    PRIMARY KEY (day, language, status, score),
    CONSTRAINT rating_language_is_known   CHECK (language IN ('vi', 'en')),
    CONSTRAINT rating_status_is_national  CHECK (status BETWEEN 0 AND 10),  -- 0: of no dossier
    CONSTRAINT rating_has_three_degrees   CHECK (score BETWEEN 1 AND 3)
);

CREATE TABLE figure (
    agency   text   COLLATE "C" NOT NULL,             -- empty: of all agencies
    service  text   COLLATE "C" NOT NULL,             -- empty: of all services of the agency
    month    date   NOT NULL,                         -- its first day, in Vietnam
    channel  text   NOT NULL,
    measure  text   NOT NULL,
    n        bigint NOT NULL,
    PRIMARY KEY (agency, service, month, channel, measure),
    CONSTRAINT figure_is_of_a_month CHECK (month = date_trunc('month', month::timestamp)::date)
);

CREATE INDEX figure_of_agencies ON figure (month) WHERE service = '';

CREATE TABLE figure_cursor (
    one        boolean     PRIMARY KEY DEFAULT true,
    epoch      integer     NOT NULL,
    xid        xid8        NOT NULL,
    seq        bigint      NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),    -- when the figures were last brought up to it
    stocks_on  date,                                  -- the day in Vietnam on which the stocks were last counted
    CONSTRAINT there_is_one_figure_cursor CHECK (one)
);

-- A legal hold keeps a dossier from being erased; a restricted one is neither told of by notices nor found at a desk.
CREATE TABLE hold (
    code       text        COLLATE "C" NOT NULL REFERENCES dossier,
    kind       text        NOT NULL,
    reason     text        NOT NULL,
    by         text        NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    lifted_at  timestamptz,
    PRIMARY KEY (code, kind),
    CONSTRAINT hold_kind_is_known  CHECK (kind IN ('legal', 'restricted')),
    CONSTRAINT hold_has_its_reason CHECK (length(reason) BETWEEN 1 AND 2000)
);

GRANT SELECT, INSERT ON paper, paper_sequence, paper_print, applicant_search, consent TO hoso24_writer;
GRANT UPDATE (last) ON paper_sequence TO hoso24_writer;
GRANT UPDATE (agency, submitted_at, folded, id_tail, phone_tail) ON applicant_search TO hoso24_writer;
GRANT UPDATE (address, given_at, given_by, withdrawn_at) ON consent TO hoso24_writer;
GRANT SELECT ON hold TO hoso24_writer;
GRANT SELECT (channel, state, ended_at, next_at) ON notice TO hoso24_writer;  -- for the doctor

GRANT SELECT (agency, form, year, number, code, version, form_version, digest, stamp, key_id, issued_at, issued_by, erased_at)
    ON paper TO hoso24_auditor;
GRANT SELECT ON paper_digest, paper_print, hold TO hoso24_auditor;

GRANT SELECT ON service, status, hold, notice TO hoso24_archivist;
GRANT SELECT (agency, form, year, number, code, erased_at) ON paper TO hoso24_archivist;
GRANT UPDATE (content, erased_at) ON paper TO hoso24_archivist;
GRANT SELECT (code, channel) ON consent TO hoso24_archivist;
GRANT UPDATE (address) ON consent TO hoso24_archivist;
GRANT SELECT (code) ON applicant_search TO hoso24_archivist;
GRANT SELECT (hash, ends_at) ON desk_session TO hoso24_archivist;
GRANT DELETE ON applicant_search, notice, desk_session TO hoso24_archivist;
GRANT INSERT ON hold TO hoso24_archivist;
GRANT UPDATE (reason, by, at, lifted_at) ON hold TO hoso24_archivist;

-- It receives and moves as the intake does, and is a member of its role (roles.sql).
GRANT SELECT ON officer, notice TO hoso24_desk;
GRANT SELECT, INSERT, UPDATE, DELETE ON desk_session TO hoso24_desk;

-- It talks to citizens' mail servers: it reads addresses where there is consent, and no applicant.
GRANT USAGE ON SCHEMA hoso24 TO hoso24_notices;
GRANT SELECT ON schema_version, epoch, heartbeat, status, agency, service, service_time, calendar, calendar_day, office_hours,
                catalogue_load, task, officer, hold, consent, notice, notice_cursor, rating, morning_mail
    TO hoso24_notices;
GRANT SELECT (code, status, due_at, version, agency, service, removed) ON dossier TO hoso24_notices;
GRANT SELECT (xid, seq, epoch, code, version, kind, format, bulk, occurred_at, recorded_at, source, source_event_id, source_seq,
              flags, submitted_by, came_from, step_status, task, paper, status, agency, origin, owner, outcome, received_at, due_at,
              finished_at, returned_at, calendar, pauses, supplements, reappointments, key_serial, service, service_case, channel,
              submitted_at, person, official_number, erased, seal)
    ON event TO hoso24_notices;
GRANT UPDATE (withdrawn_at) ON consent TO hoso24_notices;
GRANT INSERT, UPDATE ON notice, notice_cursor, rating, morning_mail TO hoso24_notices;

GRANT USAGE ON SCHEMA hoso24 TO hoso24_figures;
GRANT SELECT ON schema_version, epoch, status, agency, service, service_time, calendar, calendar_day, office_hours, rating,
                figure, figure_cursor TO hoso24_figures;
GRANT SELECT (code, version, status, agency, origin, submitted_by, owner, source_seq, service, service_case, channel, submitted_at,
              received_at, due_at, finished_at, returned_at, calendar, pauses, supplements, reappointments, outcome, reason,
              action_needed, official_number, key_serial, removed, timeline, retention_class)
    ON dossier TO hoso24_figures;
GRANT SELECT (xid, seq, epoch, code, version, kind, format, bulk, occurred_at, recorded_at, source, source_event_id, source_seq,
              flags, submitted_by, came_from, step_status, task, paper, status, agency, origin, owner, outcome, received_at, due_at,
              finished_at, returned_at, calendar, pauses, supplements, reappointments, key_serial, service, service_case, channel,
              submitted_at, person, official_number, erased, seal)
    ON event TO hoso24_figures;
GRANT INSERT, UPDATE, DELETE ON figure, figure_cursor TO hoso24_figures;
GRANT SELECT ON figure, figure_cursor TO hoso24_reader;
