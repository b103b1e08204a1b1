-- The catalogue as its files have it (lookup/catalogue/files.py): contacts, successors, details of services, calendars,
-- and a row for each load. A constraint that is NOT VALID holds for every row written from now on; the rows of before
-- have nothing in these columns.

ALTER TABLE agency
    ADD COLUMN successor      text COLLATE "C" REFERENCES agency,  -- answers for the agency after its last day
    ADD COLUMN bhxh_number    text,                                -- the five digits in official numbers: 01234/2026/07999
    ADD COLUMN hotline        text,
    ADD COLUMN email          text,
    ADD COLUMN address_vi     text,
    ADD COLUMN address_en     text,
    ADD COLUMN hours_vi       text,
    ADD COLUMN hours_en       text,
    ADD COLUMN complaint_url  text,
    ADD COLUMN calendar       text,                                -- a calendar's name; null: the national one
    ADD CONSTRAINT agency_is_not_its_own_successor  CHECK (successor IS DISTINCT FROM code) NOT VALID,
    ADD CONSTRAINT only_an_ended_agency_has_a_successor CHECK (successor IS NULL OR valid_to IS NOT NULL) NOT VALID,
    ADD CONSTRAINT bhxh_number_has_five_digits      CHECK (bhxh_number ~ '^[0-9]{5}$') NOT VALID,
    ADD CONSTRAINT complaint_url_is_a_web_address   CHECK (complaint_url ~ '^https://[^[:space:]]+$') NOT VALID;

ALTER TABLE service
    ADD COLUMN policy       jsonb,       -- rules that differ from the installation's, by name: desk rules as data
    ADD COLUMN papers       jsonb,       -- documents needed: {"sets": 1, "list": [{"vi": …, "en": …, "copies": …}]}
    ADD COLUMN route        jsonb,       -- agencies that work on it one after another: [{"work": …, "hours": …, "agency": …}]
    ADD COLUMN channels     text[],      -- how to apply: direct, online, postal; null: not stated
    ADD COLUMN online       text,        -- 'full' (toàn trình) or 'partial' (một phần); null: not stated
    ADD COLUMN result_vi    text,
    ADD COLUMN result_en    text,
    ADD COLUMN legal_basis  text[],      -- titles of the legal documents, in Vietnamese
    ADD COLUMN apply_url    text,
    ADD COLUMN fee_vi       text,
    ADD COLUMN fee_en       text,
    ADD CONSTRAINT service_is_applied_for_by_known_channels
        CHECK (channels <@ ARRAY['direct', 'online', 'postal'] AND channels <> '{}') NOT VALID,
    ADD CONSTRAINT service_is_online_in_full_or_in_part  CHECK (online IN ('full', 'partial')) NOT VALID,
    ADD CONSTRAINT apply_url_is_a_web_address            CHECK (apply_url ~ '^https://[^[:space:]]+$') NOT VALID;

-- `working_hours` stays filled: a release that does not know the other two counts with it.
ALTER TABLE service_time
    ADD COLUMN calendar_days  integer,                          -- counted through weekends and holidays
    ADD COLUMN at_once        boolean NOT NULL DEFAULT false,   -- the applicant waits for the result
    ADD COLUMN source         text,                             -- the legal document that sets the limit
    ADD CONSTRAINT time_limit_in_calendar_days_is_positive    CHECK (calendar_days > 0) NOT VALID,
    ADD CONSTRAINT time_limit_is_at_once_or_in_calendar_days  CHECK (NOT at_once OR calendar_days IS NULL) NOT VALID;

-- Versions of calendars: written once, never changed. A due date once promised does not move with a later version.
CREATE TABLE calendar (
    name             text       COLLATE "C" NOT NULL,
    version          text       COLLATE "C" NOT NULL,
    base             text       NOT NULL,          -- what its days were taken from before its own exceptions
    author           text       NOT NULL,
    source           text       NOT NULL,
    confirmed_years  integer[]  NOT NULL,          -- years whose holidays have been announced; others are estimates
    PRIMARY KEY (name, version),
    CONSTRAINT calendar_name_is_a_word           CHECK (name ~ '^[a-z][a-z0-9]{0,19}$'),
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
    CONSTRAINT weekday_is_of_iso_8601            CHECK (weekday BETWEEN 1 AND 7),
    CONSTRAINT office_opens_before_it_closes     CHECK (opens < closes),
    CONSTRAINT office_breaks_inside_its_hours    CHECK ((lunch IS NULL) = (resumes IS NULL)
                                                        AND (lunch IS NULL OR (opens < lunch AND lunch < resumes AND resumes < closes)))
);

CREATE TABLE catalogue_load (
    number   integer      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,   -- the same files may be loaded again after others
    digest   text         NOT NULL,                                   -- SHA-256 of the files, in hexadecimal
    at       timestamptz  NOT NULL DEFAULT now(),
    author   text         NOT NULL,
    sample   boolean      NOT NULL,
    summary  jsonb        NOT NULL,                                   -- rows added and changed, by table
    CONSTRAINT catalogue_load_has_a_sha_256   CHECK (digest ~ '^[0-9a-f]{64}$'),
    CONSTRAINT catalogue_load_has_an_author   CHECK (author <> '')
);

-- Loaded with the owner's URL: the writer only reads these.
GRANT SELECT ON calendar, calendar_day, office_hours, catalogue_load TO hoso24_writer, hoso24_reader;
