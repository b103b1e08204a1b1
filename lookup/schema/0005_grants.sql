-- Who may do what. Lookup reads by column: taken over, it still cannot read an applicant's name.

GRANT USAGE ON SCHEMA hoso24 TO hoso24_writer, hoso24_relay, hoso24_reader;
GRANT SELECT ON status, agency, service, service_time, epoch, heartbeat, schema_version
    TO hoso24_writer, hoso24_relay, hoso24_reader;

GRANT SELECT (code, version, status, service, agency, submitted_at, received_at, due_at, finished_at, returned_at,
              official_number, action_needed, timeline, key_serial, removed)
    ON dossier TO hoso24_reader, hoso24_relay;
GRANT SELECT ON dossier_number TO hoso24_reader, hoso24_relay;

GRANT SELECT ON event TO hoso24_relay;
GRANT UPDATE (at, xid) ON heartbeat TO hoso24_relay;

GRANT SELECT, INSERT, UPDATE ON dossier TO hoso24_writer;
GRANT SELECT, INSERT ON dossier_number, event TO hoso24_writer;      -- the log is only ever appended to
GRANT SELECT, INSERT, UPDATE ON client, idempotency, daily_sequence, import_run TO hoso24_writer;
GRANT SELECT, INSERT, UPDATE ON agency, service, service_time TO hoso24_writer;
