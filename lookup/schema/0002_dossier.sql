-- The dossier as it stands now: one row is one lookup. From its second version on only the log writes it
-- (0004_the_row_follows_the_log.sql).

-- Partitions are for vacuum and for growth, not for expiry: retention differs by procedure (2 to 70 years).
CREATE TABLE dossier (
    code              text        COLLATE "C" NOT NULL,
    version           integer     NOT NULL,           -- counts this dossier's events, 1 being its reception
    status            smallint    NOT NULL,
    agency            text        COLLATE "C" NOT NULL REFERENCES agency,   -- holds the dossier now, or leads the work
    origin            text        COLLATE "C" NOT NULL REFERENCES agency,   -- received it, and hands the result over
    submitted_by      text,                           -- the client that submitted it; null: a desk or an import
    owner             text,                           -- the client whose synchronisation sets the status; null: any in scope
    source_seq        bigint,                         -- how far that client's own sequence has come
    service           text        COLLATE "C" NOT NULL REFERENCES service,
    service_case      text        NOT NULL DEFAULT 'default',
    channel           text        NOT NULL,
    submitted_at      timestamptz NOT NULL,           -- handed in
    received_at       timestamptz,                    -- accepted: the receipt's time
    due_at            timestamptz,                    -- promised at acceptance
    finished_at       timestamptz,                    -- work done: decides "on time"
    returned_at       timestamptz,                    -- result handed over
    calendar          text,                           -- the calendar the promised date was counted by
    pauses            jsonb       NOT NULL DEFAULT '[]',   -- of the time limit: status, since, until, policy, due_before
    supplements       smallint    NOT NULL DEFAULT 0, -- how often one was asked for
    reappointments    smallint    NOT NULL DEFAULT 0, -- how often the promised date was put off
    outcome           text,                           -- of the work: granted, refused, partly
    reason            text,                           -- of a refusal, withdrawal or suspension, in the agency's words
    action_needed     text,                           -- what the holder must do now, in the agency's words
    official_number   text        COLLATE "C",        -- bound later by some agencies; `code` keeps working
    key_serial        smallint    NOT NULL DEFAULT 0, -- lookup keys of lower serials no longer open this dossier
    removed           boolean     NOT NULL DEFAULT false,
    timeline          jsonb       NOT NULL,           -- public steps as recorded: at, status, agency, department, and late, due_at, task, work where they apply
    retention_class   text,                           -- off until set
    -- The applicant. The reader role cannot select these columns.
    applicant_kind    smallint,
    applicant_name    text,
    applicant_id      text,
    applicant_phone   text,
    applicant_email   text,
    applicant_address text,
    subject           text,
    PRIMARY KEY (code),
    CONSTRAINT code_is_in_canonical_spelling         CHECK (code ~ '^(([0-9A-Z]{2,3}\.){0,8}[0-9A-Z]{2,3}-[0-9]{6}-[0-9]{4,10}|[0-9]{5,7}/[0-9]{4}/[0-9]{5})$'),
    CONSTRAINT dossier_versions_start_at_one         CHECK (version >= 1),
    CONSTRAINT dossier_status_is_national            CHECK (status BETWEEN 1 AND 10),
    CONSTRAINT channel_is_known                      CHECK (channel IN ('direct', 'online', 'postal')),
    CONSTRAINT promised_date_is_not_before_submission CHECK (due_at >= submitted_at),
    CONSTRAINT finished_status_has_finishing_time    CHECK (status NOT IN (9, 10) OR finished_at IS NOT NULL OR removed),
    CONSTRAINT returned_status_has_return_time       CHECK (status <> 10 OR returned_at IS NOT NULL OR removed),
    CONSTRAINT outcome_is_known                      CHECK (outcome IN ('granted', 'refused', 'partly')),
    CONSTRAINT pauses_are_a_list                     CHECK (jsonb_typeof(pauses) = 'array'),
    CONSTRAINT timeline_is_not_longer_than_history   CHECK (jsonb_array_length(timeline) <= version),
    CONSTRAINT timeline_fits_one_read                CHECK (pg_column_size(timeline) <= 65536),
    CONSTRAINT key_serial_fits_the_key               CHECK (key_serial BETWEEN 0 AND 31),
    CONSTRAINT removed_dossier_has_no_content        CHECK (
        NOT removed
        OR num_nonnulls(applicant_kind, applicant_name, applicant_id, applicant_phone, applicant_email, applicant_address,
                        subject, action_needed, reason, official_number) = 0
           AND timeline = '[]'
    )
) PARTITION BY HASH (code);

DO $$
BEGIN
    FOR n IN 0..15 LOOP
        EXECUTE format('CREATE TABLE dossier_%s PARTITION OF dossier FOR VALUES WITH (MODULUS 16, REMAINDER %s)
                        WITH (fillfactor = 80)', to_char(n, 'FM00'), n);   -- room for the next statuses on the same page
    END LOOP;
END $$;

CREATE TABLE dossier_number (
    number   text    COLLATE "C" PRIMARY KEY,
    code     text    COLLATE "C" NOT NULL REFERENCES dossier,
    version  integer NOT NULL,                        -- the version whose event bound it
    CONSTRAINT dossier_has_one_official_number UNIQUE (code)
);
