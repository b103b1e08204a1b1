-- What citizens are told about the service itself: announced maintenance, and that intake is at work.

-- Only ever appended to: who was told what, and when, stays on record. A notice is taken back by a withdrawal.
CREATE TABLE maintenance (
    number         integer     PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,              -- when everything is to be back
    shown_from     timestamptz NOT NULL,              -- from when on the lookup form carries it, too
    affects        text[]      NOT NULL,
    text_vi        text        NOT NULL,
    text_en        text        NOT NULL,
    announced_at   timestamptz NOT NULL DEFAULT now(),
    announced_by   text        NOT NULL,              -- who called the command; never public
    urgent_reason  text,                              -- why it was announced later than the regulation asks; never public
    CONSTRAINT maintenance_ends_after_it_starts        CHECK (ends_at > starts_at),
    CONSTRAINT maintenance_is_announced_before_it_ends CHECK (ends_at > announced_at),
    CONSTRAINT maintenance_is_shown_before_it_starts   CHECK (shown_from <= starts_at),
    CONSTRAINT maintenance_affects_known_parts         CHECK (affects <@ ARRAY['lookup', 'intake', 'updates'] AND affects <> '{}'),
    CONSTRAINT maintenance_is_told_in_both_languages   CHECK (length(text_vi) BETWEEN 1 AND 500 AND length(text_en) BETWEEN 1 AND 500)
);
CREATE INDEX maintenance_by_end ON maintenance (ends_at);

CREATE TABLE maintenance_withdrawal (
    number        integer     PRIMARY KEY REFERENCES maintenance,
    withdrawn_at  timestamptz NOT NULL DEFAULT now(),
    withdrawn_by  text        NOT NULL,
    reason        text        NOT NULL
);

-- Only a commit proves that intake can take something in; it makes one every few seconds. One row for all processes.
CREATE TABLE sign_of_life (
    service  text        PRIMARY KEY,
    at       timestamptz NOT NULL,
    CONSTRAINT sign_of_life_is_of_a_known_service CHECK (service IN ('intake'))
) WITH (fillfactor = 10);                             -- rewritten in place

GRANT SELECT ON maintenance, maintenance_withdrawal, sign_of_life TO hoso24_reader, hoso24_writer;
GRANT INSERT ON maintenance, maintenance_withdrawal, sign_of_life TO hoso24_writer;
GRANT UPDATE (at) ON sign_of_life TO hoso24_writer;
