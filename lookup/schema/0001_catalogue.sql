-- What dossiers refer to: statuses, agencies, services. Data with validity dates, loaded, never code.

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
    code        text    COLLATE "C" PRIMARY KEY,
    parent      text    COLLATE "C" REFERENCES agency,
    name_vi     text    NOT NULL,
    name_en     text    NOT NULL,
    valid_from  date    NOT NULL,
    valid_to    date,                       -- first day it is no longer valid; null: still is
    sample      boolean NOT NULL,           -- fictitious, shipped for trying things out
    CONSTRAINT agency_is_not_its_own_parent     CHECK (parent IS DISTINCT FROM code),
    CONSTRAINT agency_ends_after_it_begins      CHECK (valid_to > valid_from),
    CONSTRAINT agency_code_is_an_identifier     CHECK (code ~ '^[0-9A-Z.]{2,35}$')
);

CREATE TABLE service (
    code                    text    COLLATE "C" PRIMARY KEY,
    name_vi                 text    NOT NULL,
    name_en                 text    NOT NULL,
    field_code              text    NOT NULL,
    sensitive               boolean NOT NULL,       -- the name alone says something about health: never shown anonymously
    clock_after_supplement  text    NOT NULL DEFAULT 'restart',
    clock_after_suspension  text    NOT NULL DEFAULT 'shift',
    valid_from              date    NOT NULL,
    valid_to                date,
    sample                  boolean NOT NULL,
    CONSTRAINT supplement_clock_policy_is_known CHECK (clock_after_supplement IN ('restart', 'shift', 'none')),
    CONSTRAINT suspension_clock_policy_is_known CHECK (clock_after_suspension IN ('restart', 'shift', 'none')),
    CONSTRAINT service_ends_after_it_begins     CHECK (valid_to > valid_from)
);

CREATE TABLE service_time (
    service        text     COLLATE "C" NOT NULL REFERENCES service,
    service_case   text     NOT NULL,               -- 'default', or the variant the law distinguishes
    channel        text     NOT NULL,               -- 'any', or the channel this limit is for
    valid_from     date     NOT NULL,
    valid_to       date,
    working_hours  integer  NOT NULL,               -- eight are a working day
    PRIMARY KEY (service, service_case, channel, valid_from),
    CONSTRAINT time_limit_is_positive           CHECK (working_hours > 0),
    CONSTRAINT time_limit_channel_is_known      CHECK (channel IN ('any', 'direct', 'online', 'postal')),
    CONSTRAINT time_limit_ends_after_it_begins  CHECK (valid_to > valid_from)
);
