-- Who may do what. Lookup reads by column: taken over, it still cannot read an applicant's name. The intake appends to
-- the log and inserts dossiers; their rows then follow the log. Catalogue and clients are the owner's.

GRANT USAGE ON SCHEMA hoso24
    TO hoso24_writer, hoso24_relay, hoso24_reader, hoso24_notary, hoso24_auditor, hoso24_archivist;
GRANT SELECT ON schema_version
    TO hoso24_writer, hoso24_relay, hoso24_reader, hoso24_notary, hoso24_auditor, hoso24_archivist;
GRANT SELECT ON status, agency, service, service_time, epoch, heartbeat
    TO hoso24_writer, hoso24_relay, hoso24_reader;
GRANT SELECT ON calendar, calendar_day, office_hours, catalogue_load TO hoso24_writer, hoso24_reader;

GRANT SELECT (code, version, status, agency, origin, service, submitted_at, received_at, due_at, finished_at, returned_at, pauses,
              supplements, reappointments, outcome, reason, action_needed, official_number, key_serial, removed, timeline)
    ON dossier TO hoso24_reader, hoso24_relay;
GRANT SELECT ON dossier_number TO hoso24_reader, hoso24_relay;

-- Officers' names and notes are not the relay's business.
GRANT SELECT (xid, seq, epoch, code, version, kind, format, bulk, occurred_at, recorded_at, source, source_event_id, source_seq,
              flags, submitted_by, came_from, step_status, task, paper, status, agency, origin, owner, outcome, received_at, due_at,
              finished_at, returned_at, calendar, pauses, supplements, reappointments, key_serial, service, service_case, channel,
              submitted_at, person, official_number, erased, seal)
    ON event TO hoso24_relay;
GRANT UPDATE (at, xid) ON heartbeat TO hoso24_relay;

-- The log is only ever appended to. PostgreSQL alone gives `xid` and `seq`: with an older one an event would pass by
-- relay and notary, which have read on.
GRANT SELECT ON event TO hoso24_writer;
GRANT INSERT (epoch, code, version, kind, bulk, occurred_at, recorded_at, source, source_event_id, source_seq, flags, submitted_by,
              came_from, step_status, task, paper, status, agency, origin, owner, outcome, received_at, due_at, finished_at,
              returned_at, calendar, pauses, supplements, reappointments, key_serial, service, service_case, channel, submitted_at,
              person, note, detail, actor, department, official_number, salt, seal)
    ON event TO hoso24_writer;
GRANT SELECT, INSERT ON dossier TO hoso24_writer;
GRANT UPDATE (retention_class, applicant_kind, applicant_name, applicant_id, applicant_phone, applicant_email, applicant_address,
              subject)
    ON dossier TO hoso24_writer;
GRANT SELECT ON dossier_number, client, client_token TO hoso24_writer;
GRANT UPDATE (last_used_on) ON client_token TO hoso24_writer;
GRANT SELECT, INSERT ON idempotency, daily_sequence TO hoso24_writer;
GRANT UPDATE (replays) ON idempotency TO hoso24_writer;
GRANT UPDATE (last) ON daily_sequence TO hoso24_writer;
GRANT SELECT, INSERT, UPDATE ON import_run TO hoso24_writer;
GRANT INSERT ON personal_read TO hoso24_writer;

GRANT SELECT ON event, epoch TO hoso24_notary;

GRANT SELECT ON event, epoch, status, dossier_number, dossier_person, personal_read, catalogue_load TO hoso24_auditor;
GRANT SELECT (code, version, status, agency, origin, submitted_by, owner, source_seq, service, service_case, channel, submitted_at,
              received_at, due_at, finished_at, returned_at, calendar, pauses, supplements, reappointments, outcome, reason,
              action_needed, official_number, key_serial, removed, timeline, retention_class)
    ON dossier TO hoso24_auditor;

-- Erases, and cannot alter: `erased` must be the digest of what was there, or the seal no longer fits.
GRANT SELECT ON event TO hoso24_archivist;
GRANT SELECT (code, status, finished_at, service, retention_class, removed) ON dossier TO hoso24_archivist;
GRANT UPDATE (note, detail, actor, department, official_number, salt, erased) ON event TO hoso24_archivist;
GRANT SELECT (client, key, first_at) ON idempotency TO hoso24_archivist;
GRANT DELETE ON idempotency TO hoso24_archivist;
