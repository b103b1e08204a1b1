-- A step of a task names the agency whose task it is; until now it named the lead, so that a holder read the wrong office.
-- Besides that the function is the one of 0004.

CREATE OR REPLACE FUNCTION the_row_follows_the_log() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = hoso24, pg_temp
SET enable_hashjoin = off          -- one look-up for each event, whatever the planner thinks of 16 partitions
SET enable_mergejoin = off
SET enable_seqscan = off
AS $$
DECLARE
    events    bigint;
    most      bigint;
    numbered  boolean;
    changed   bigint;
    followed  bigint := 0;
    number    text;
BEGIN
    SELECT count(*), max(place), bool_or(official_number IS NOT NULL OR kind = 'removed')
      INTO events, most, numbered
      FROM (SELECT kind, official_number, row_number() OVER (PARTITION BY code ORDER BY version) AS place
              FROM new_event WHERE version > 1 AND NOT bulk) AS placed;
    IF events = 0 THEN
        RETURN NULL;
    END IF;

    -- Several events of one dossier in a statement: the first of each dossier, then the second of each, and so on.
    FOR nth IN 1 .. most LOOP
        UPDATE dossier AS d
           SET version         = e.version,
               status          = e.status,
               agency          = e.agency,
               origin          = e.origin,
               owner           = e.owner,
               source_seq      = CASE WHEN e.kind = 'noted' THEN d.source_seq ELSE coalesce(e.source_seq, d.source_seq) END,
               service         = coalesce(e.service, d.service),
               service_case    = coalesce(e.service_case, d.service_case),
               channel         = coalesce(e.channel, d.channel),
               submitted_at    = coalesce(e.submitted_at, d.submitted_at),
               received_at     = e.received_at,
               due_at          = e.due_at,
               finished_at     = e.finished_at,
               returned_at     = e.returned_at,
               calendar        = e.calendar,
               pauses          = coalesce(e.pauses::jsonb, d.pauses),
               supplements     = e.supplements,
               reappointments  = e.reappointments,
               outcome         = e.outcome,
               reason          = CASE WHEN e.gone THEN NULL
                                      WHEN e.kind <> 'moved' THEN d.reason
                                      WHEN e.outcome = 'refused' AND d.outcome = 'refused' THEN coalesce(e.note, d.reason)
                                      WHEN e.outcome = 'refused' OR e.status IN (3, 7, 8) THEN e.note END,
               action_needed   = CASE WHEN e.gone THEN NULL
                                      WHEN e.kind <> 'moved' THEN d.action_needed
                                      WHEN e.status IN (5, 6) THEN e.note END,
               official_number = CASE WHEN e.gone THEN NULL ELSE coalesce(e.official_number, d.official_number) END,
               key_serial      = e.key_serial,
               removed         = e.gone,
               timeline        = CASE WHEN e.gone THEN '[]' ELSE d.timeline || e.steps END,
               applicant_kind    = CASE WHEN NOT e.gone THEN d.applicant_kind END,
               applicant_name    = CASE WHEN NOT e.gone THEN d.applicant_name END,
               applicant_id      = CASE WHEN NOT e.gone THEN d.applicant_id END,
               applicant_phone   = CASE WHEN NOT e.gone THEN d.applicant_phone END,
               applicant_email   = CASE WHEN NOT e.gone THEN d.applicant_email END,
               applicant_address = CASE WHEN NOT e.gone THEN d.applicant_address END,
               subject           = CASE WHEN NOT e.gone THEN d.subject END
          FROM (SELECT placed.*,
                       kind = 'removed' AS gone,
                       CASE WHEN kind IN ('moved', 'noted', 'due_changed', 'led_by', 'task_opened', 'task_ended')
                                 AND NOT 'not_in_timeline' = ANY (coalesce(flags, '{}'))
                            THEN jsonb_build_array(
                                jsonb_build_object('at', vietnam_time(occurred_at), 'status', told.slug, 'department', department,
                                                   'agency', CASE WHEN kind IN ('task_opened', 'task_ended')
                                                                  THEN coalesce(detail::jsonb ->> 'agency', agency)
                                                                  ELSE agency END)
                                || CASE kind
                                       WHEN 'noted'       THEN jsonb_build_object('late', true)
                                       WHEN 'due_changed' THEN jsonb_build_object('due_at', vietnam_time(due_at))
                                       WHEN 'task_opened' THEN jsonb_build_object('task', task, 'work', detail::jsonb -> 'work',
                                                                                  'due_at', detail::jsonb -> 'due_at')
                                       WHEN 'task_ended'  THEN jsonb_build_object('task', task)
                                       ELSE '{}' END)
                            ELSE '[]' END AS steps
                  FROM (SELECT *, row_number() OVER (PARTITION BY code ORDER BY version) AS place
                          FROM new_event WHERE version > 1 AND NOT bulk) AS placed
                  JOIN status AS told ON told.number = coalesce(placed.step_status, placed.status)
                 WHERE placed.place = nth) AS e
         WHERE d.code = e.code
           AND d.version = e.version - 1
           AND NOT d.removed;
        GET DIAGNOSTICS changed = ROW_COUNT;
        followed := followed + changed;
    END LOOP;
    IF followed <> events THEN
        RAISE EXCEPTION '% of % events do not follow the version of their dossier', events - followed, events
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'event_follows_the_version_before';
    END IF;

    IF numbered THEN
        DELETE FROM dossier_number AS n
         USING new_event AS e
         WHERE n.code = e.code
           AND NOT e.bulk
           AND (e.kind = 'removed' OR e.kind = 'corrected' AND e.official_number IS NOT NULL);
        INSERT INTO dossier_number (number, code, version)
        SELECT DISTINCT ON (code) official_number, code, version
          FROM new_event AS e
         WHERE official_number IS NOT NULL AND version > 1 AND NOT bulk
           AND NOT EXISTS (SELECT FROM new_event AS later WHERE later.code = e.code AND later.kind = 'removed')
         ORDER BY code, version DESC;
        SELECT dossier.code
          INTO number
          FROM new_event
          JOIN dossier ON dossier.code = new_event.official_number
         LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION '% is the code of a dossier', number
                USING ERRCODE = 'unique_violation', CONSTRAINT = 'official_number_is_no_dossiers_code';
        END IF;
    END IF;
    RETURN NULL;
END $$;
