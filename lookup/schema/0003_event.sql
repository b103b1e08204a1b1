-- The event log: the timeline's source, the audit chain and the change feed's input. There is no other log.

CREATE TABLE epoch (
    number      integer     PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT now(),
    reason      text        NOT NULL
);
COMMENT ON TABLE epoch IS 'A new epoch begins when the database has gone back in time; caches and feed carry its number.';
INSERT INTO epoch (number, reason) VALUES (1, 'first start');

CREATE TABLE event (
    xid              xid8        NOT NULL DEFAULT pg_current_xact_id(),
    seq              bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,  -- has holes, and is not commit order
    epoch            integer     NOT NULL,            -- of table epoch; no foreign key, it would cost a look-up per event
    code             text        COLLATE "C" NOT NULL,
    version          integer     NOT NULL,
    kind             text        NOT NULL,
    status           smallint    NOT NULL,
    occurred_at      timestamptz NOT NULL,            -- as the source says
    recorded_at      timestamptz NOT NULL,            -- by the database's clock
    agency           text        COLLATE "C" NOT NULL,
    department       text,
    actor            text        NOT NULL,            -- the client, or the officer the client names; never public
    source           text        NOT NULL,
    source_event_id  text,
    bulk             boolean     NOT NULL DEFAULT false,
    note             text,
    official_number  text        COLLATE "C",
    prev_hash        bytea       NOT NULL,
    hash             bytea       NOT NULL,
    PRIMARY KEY (code, version),
    CONSTRAINT event_versions_start_at_one        CHECK (version >= 1),
    CONSTRAINT event_kind_is_known                CHECK (kind IN ('received', 'moved', 'number_bound', 'removed')),
    CONSTRAINT first_event_is_the_reception       CHECK ((kind = 'received') = (version = 1)),
    CONSTRAINT event_status_is_national           CHECK (status BETWEEN 1 AND 10),
    CONSTRAINT number_is_there_when_bound         CHECK ((kind = 'number_bound') = (official_number IS NOT NULL)),
    CONSTRAINT event_hash_is_sha256               CHECK (length(hash) = 32 AND length(prev_hash) = 32),
    CONSTRAINT source_event_is_recorded_once      UNIQUE (source, source_event_id)
);

-- The relay's and the feed's order. Bulk events are passed over, so they need no entry.
CREATE INDEX event_in_commit_order ON event (epoch, xid, seq) WHERE NOT bulk;

CREATE TABLE heartbeat (
    one  boolean     PRIMARY KEY DEFAULT true,
    at   timestamptz NOT NULL,
    xid  xid8        NOT NULL,
    CONSTRAINT there_is_one_heartbeat CHECK (one)
) WITH (fillfactor = 10);                              -- one row, rewritten every second, in place
INSERT INTO heartbeat (at, xid) VALUES (now(), pg_current_xact_id());
