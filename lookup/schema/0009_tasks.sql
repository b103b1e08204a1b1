-- Who owes what of a dossier, and by when. The inbox of an office is its live tasks by due date, and nothing else.
-- intake/rules/tasks.py says how they follow the log; `hoso24 audit verify` compares them with it.

CREATE TABLE task (
    code       text        COLLATE "C" NOT NULL REFERENCES dossier,
    number     smallint    NOT NULL,
    agency     text        COLLATE "C" NOT NULL REFERENCES agency,
    kind       text        NOT NULL,
    work       text        NOT NULL,
    state      text        NOT NULL,
    after      smallint,                              -- the task that has to end first; null: none
    due_at     timestamptz NOT NULL,                  -- infinity: nothing was promised
    opened_at  timestamptz,                           -- null until it has been open once
    ended_at   timestamptz,
    version    integer     NOT NULL,                  -- of the dossier, when the task last changed
    PRIMARY KEY (code, number),
    CONSTRAINT dossier_has_at_most_twelve_tasks CHECK (number BETWEEN 1 AND 12),
    CONSTRAINT task_kind_is_known               CHECK (kind IN ('decide', 'work', 'opinion', 'transfer', 'hand_over')),
    CONSTRAINT task_state_is_known              CHECK (state IN ('waiting', 'open', 'asked', 'done', 'refused', 'cancelled')),
    CONSTRAINT task_waits_for_another_one       CHECK (after <> number),
    CONSTRAINT waiting_task_names_the_other     CHECK (state NOT IN ('waiting', 'asked') OR after IS NOT NULL),
    CONSTRAINT open_task_has_been_opened        CHECK (state NOT IN ('open', 'asked') OR opened_at IS NOT NULL),
    CONSTRAINT ended_task_has_its_end           CHECK ((state IN ('done', 'refused', 'cancelled')) = (ended_at IS NOT NULL))
);
CREATE INDEX task_live ON task (agency, due_at, code, number) WHERE state IN ('open', 'asked');

GRANT SELECT, INSERT ON task TO hoso24_writer;
GRANT UPDATE (agency, kind, work, state, after, due_at, opened_at, ended_at, version) ON task TO hoso24_writer;
GRANT SELECT ON task TO hoso24_auditor;
