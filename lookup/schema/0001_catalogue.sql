-- What dossiers refer to: statuses, agencies, services, calendars. Data with validity dates, loaded from files by the
-- owner (lookup/catalogue/files.py), never code.

CREATE TABLE status (
    number  smallint PRIMARY KEY,
    slug    text     NOT NULL,
    final   boolean  NOT NULL,
    CONSTRAINT status_slugs_are_unique           UNIQUE (slug),
    CONSTRAINT status_is_one_of_the_national_ten CHECK (number BETWEEN 1 AND 10)
);
COMMENT ON TABLE status IS 'The words of lookup/status.py, for people who read the tables; a test keeps the two equal.';

INSERT INTO status (number, slug, final) VALUES
    (1,  'submitted',           false),
    (2,  'received',            false),
    (3,  'rejected',            true),
    (4,  'processing',          false),
    (5,  'supplement_required', false),
    (6,  'payment_required',    false),
    (7,  'withdrawn',           true),
    (8,  'suspended',           false),
    (9,  'completed',           false),
    (10, 'returned',            true);

CREATE TABLE agency (
    code           text    COLLATE "C" PRIMARY KEY,
    parent         text    COLLATE "C" REFERENCES agency,
    successor      text    COLLATE "C" REFERENCES agency,   -- answers for the agency after its last day
    name_vi        text    NOT NULL,
    name_en        text    NOT NULL,
    bhxh_number    text,                                    -- the five digits in official numbers: 01234/2026/07999
    hotline        text,
    email          text,
    address_vi     text,
    address_en     text,
    hours_vi       text,
    hours_en       text,
    complaint_url  text,
    calendar       text,                                    -- a calendar's name; null: the national one
    sandbox        boolean NOT NULL DEFAULT false,          -- takes made-up dossiers only, for partners who try things out
    sample         boolean NOT NULL,                        -- fictitious, shipped for trying things out
    valid_from     date    NOT NULL,
    valid_to       date,                                    -- first day it is no longer valid; null: still is
    CONSTRAINT agency_code_is_an_identifier         CHECK (code ~ '^[0-9A-Z.]{2,35}$'),
    CONSTRAINT agency_is_not_its_own_parent         CHECK (parent IS DISTINCT FROM code),
    CONSTRAINT agency_is_not_its_own_successor      CHECK (successor IS DISTINCT FROM code),
    CONSTRAINT agency_ends_after_it_begins          CHECK (valid_to > valid_from),
    CONSTRAINT only_an_ended_agency_has_a_successor CHECK (successor IS NULL OR valid_to IS NOT NULL),
    CONSTRAINT bhxh_number_has_five_digits          CHECK (bhxh_number ~ '^[0-9]{5}$'),
    CONSTRAINT complaint_url_is_a_web_address       CHECK (complaint_url ~ '^https://[^[:space:]]+$')
);

CREATE TABLE service (
    code                    text    COLLATE "C" PRIMARY KEY,
    name_vi                 text    NOT NULL,
    name_en                 text    NOT NULL,
    field_code              text    NOT NULL,
    sensitive               boolean NOT NULL,                     -- the name alone says something about health: never shown anonymously
    clock_after_supplement  text    NOT NULL DEFAULT 'restart',
    clock_after_suspension  text    NOT NULL DEFAULT 'shift',
    clock_after_payment     text    NOT NULL DEFAULT 'shift',
    policy                  jsonb,                                -- rules that differ from the installation's, by name
    papers                  jsonb,                                -- documents needed: {"sets": 1, "list": [{"vi": …, "en": …, "copies": …}]}
    route                   jsonb,                                -- agencies that work on it in turn: [{"work": …, "hours": …, "agency": …}]
    channels                text[],                               -- how to apply: direct, online, postal; null: not stated
    online                  text,                                 -- 'full' (toàn trình) or 'partial' (một phần); null: not stated
    result_vi               text,
    result_en               text,
    legal_basis             text[],                               -- titles of the legal documents, in Vietnamese
    apply_url               text,
    fee_vi                  text,
    fee_en                  text,
    retention_class         text,                                 -- how long its dossiers are kept
    sample                  boolean NOT NULL,
    valid_from              date    NOT NULL,
    valid_to                date,
    CONSTRAINT supplement_clock_policy_is_known         CHECK (clock_after_supplement IN ('restart', 'shift', 'none')),
    CONSTRAINT suspension_clock_policy_is_known         CHECK (clock_after_suspension IN ('restart', 'shift', 'none')),
    CONSTRAINT payment_clock_policy_is_known            CHECK (clock_after_payment IN ('restart', 'shift', 'none')),
    CONSTRAINT service_is_applied_for_by_known_channels CHECK (channels <@ ARRAY['direct', 'online', 'postal'] AND channels <> '{}'),
    CONSTRAINT service_is_online_in_full_or_in_part     CHECK (online IN ('full', 'partial')),
    CONSTRAINT apply_url_is_a_web_address               CHECK (apply_url ~ '^https://[^[:space:]]+$'),
    CONSTRAINT service_ends_after_it_begins             CHECK (valid_to > valid_from)
);

CREATE TABLE service_time (
    service        text     COLLATE "C" NOT NULL REFERENCES service,
    service_case   text     NOT NULL,                             -- 'default', or the variant the law distinguishes
    channel        text     NOT NULL,                             -- 'any', or the channel this limit is for
    valid_from     date     NOT NULL,
    valid_to       date,
    working_hours  integer,                                       -- eight are a working day
    calendar_days  integer,                                       -- counted through weekends and holidays
    at_once        boolean  NOT NULL DEFAULT false,               -- the applicant waits for the result
    source         text,                                          -- the legal document that sets the limit
    PRIMARY KEY (service, service_case, channel, valid_from),
    CONSTRAINT time_limit_has_one_unit                  CHECK (num_nonnulls(working_hours, calendar_days) + at_once::integer = 1),
    CONSTRAINT time_limit_is_positive                   CHECK (working_hours > 0),
    CONSTRAINT time_limit_in_calendar_days_is_positive  CHECK (calendar_days > 0),
    CONSTRAINT time_limit_channel_is_known              CHECK (channel IN ('any', 'direct', 'online', 'postal')),
    CONSTRAINT time_limit_ends_after_it_begins          CHECK (valid_to > valid_from)
);

-- Versions of calendars: written once, never changed. A due date once promised does not move with a later version.
CREATE TABLE calendar (
    name             text       COLLATE "C" NOT NULL,
    version          text       COLLATE "C" NOT NULL,
    base             text       NOT NULL,          -- what its days were taken from before its own exceptions
    author           text       NOT NULL,
    source           text       NOT NULL,
    confirmed_years  integer[]  NOT NULL,          -- years whose holidays have been announced; others are estimates
    PRIMARY KEY (name, version),
    CONSTRAINT calendar_name_is_a_word             CHECK (name ~ '^[a-z][a-z0-9]{0,19}$'),
    CONSTRAINT calendar_version_is_year_and_number CHECK (version ~ '^[0-9]{4}[.][0-9]{1,4}$')
);

CREATE TABLE calendar_day (
    name     text     COLLATE "C" NOT NULL,
    version  text     COLLATE "C" NOT NULL,
    day      date     NOT NULL,
    working  boolean  NOT NULL,
    note     text,                                 -- the announcement, where the day differs from the base
    PRIMARY KEY (name, version, day),
    FOREIGN KEY (name, version) REFERENCES calendar
);

CREATE TABLE office_hours (
    name     text      COLLATE "C" NOT NULL,
    version  text      COLLATE "C" NOT NULL,
    weekday  smallint  NOT NULL,                   -- 1 is Monday, as in ISO 8601
    opens    time      NOT NULL,
    lunch    time,                                 -- null with `resumes`: open without a break
    resumes  time,
    closes   time      NOT NULL,
    PRIMARY KEY (name, version, weekday),
    FOREIGN KEY (name, version) REFERENCES calendar,
    CONSTRAINT weekday_is_of_iso_8601              CHECK (weekday BETWEEN 1 AND 7),
    CONSTRAINT office_opens_before_it_closes       CHECK (opens < closes),
    CONSTRAINT office_breaks_inside_its_hours      CHECK ((lunch IS NULL) = (resumes IS NULL)
                                                          AND (lunch IS NULL OR (opens < lunch AND lunch < resumes AND resumes < closes)))
);

CREATE TABLE catalogue_load (
    number   integer      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- the same files may be loaded again after others
    digest   text         NOT NULL,                                   -- SHA-256 of the files, in hexadecimal
    at       timestamptz  NOT NULL DEFAULT now(),
    author   text         NOT NULL,
    sample   boolean      NOT NULL,
    summary  jsonb        NOT NULL,                                   -- rows added and changed, by table
    CONSTRAINT catalogue_load_has_a_sha_256        CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT catalogue_load_has_an_author        CHECK (author <> '')
);
