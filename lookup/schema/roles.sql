-- The roles, run once by the server's administrator (`hoso24 migrate` does it when it is given
-- HOSO24_PG_ADMIN_URL). Safe to run again. Passwords are set apart from this file.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['hoso24_owner', 'hoso24_writer', 'hoso24_relay', 'hoso24_reader', 'hoso24_notary',
                                'hoso24_auditor', 'hoso24_archivist', 'hoso24_webhooks', 'hoso24_desk', 'hoso24_notices',
                                'hoso24_figures'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', name);
        END IF;
        EXECUTE format('ALTER ROLE %I SET search_path = hoso24', name);
        EXECUTE format('ALTER ROLE %I SET timezone = %L', name, 'UTC');
    END LOOP;
END $$;

-- Any open writing transaction holds the change feed back, so no role may keep one open.
ALTER ROLE hoso24_owner     SET lock_timeout = '3s';
ALTER ROLE hoso24_writer    SET transaction_timeout = '10s';
ALTER ROLE hoso24_writer    SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE hoso24_archivist SET transaction_timeout = '10s';
ALTER ROLE hoso24_archivist SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE hoso24_webhooks  SET transaction_timeout = '10s';
ALTER ROLE hoso24_webhooks  SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE hoso24_webhooks  SET jit = off;
ALTER ROLE hoso24_desk      SET transaction_timeout = '10s';
ALTER ROLE hoso24_desk      SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE hoso24_desk      SET jit = off;
ALTER ROLE hoso24_notices   SET transaction_timeout = '10s';
ALTER ROLE hoso24_notices   SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE hoso24_notices   SET jit = off;
-- The nightly count reads every dossier once.
ALTER ROLE hoso24_figures   SET transaction_timeout = '10min';
ALTER ROLE hoso24_figures   SET jit = off;
ALTER ROLE hoso24_reader    SET transaction_timeout = '5s';
ALTER ROLE hoso24_reader    SET default_transaction_read_only = on;
-- One generic plan for the batch read: custom plans fall back to sequential scans over the partitions. The writer's
-- statements are short, and planning one anew over sixteen partitions takes longer than running it. Set on the role:
-- PgBouncer logs in as it, and a setting for each statement would cost a round trip.
ALTER ROLE hoso24_reader    SET plan_cache_mode = force_generic_plan;
ALTER ROLE hoso24_writer    SET plan_cache_mode = force_generic_plan;
ALTER ROLE hoso24_reader    SET jit = off;
-- A relay that is stopped must lose its session, and with it the leader's lock, within seconds.
ALTER ROLE hoso24_relay     SET idle_session_timeout = '3s';
ALTER ROLE hoso24_relay     SET idle_in_transaction_session_timeout = '3s';
ALTER ROLE hoso24_relay     SET transaction_timeout = '10s';
ALTER ROLE hoso24_relay     SET tcp_user_timeout = '3s';
-- Notary and auditor read the log in pages; neither writes.
ALTER ROLE hoso24_notary    SET default_transaction_read_only = on;
ALTER ROLE hoso24_notary    SET transaction_timeout = '30s';
ALTER ROLE hoso24_notary    SET idle_session_timeout = '1min';
ALTER ROLE hoso24_notary    SET jit = off;
ALTER ROLE hoso24_auditor   SET default_transaction_read_only = on;
ALTER ROLE hoso24_auditor   SET transaction_timeout = '2min';
ALTER ROLE hoso24_auditor   SET jit = off;
-- It may end a session of the reader's, which has no business with a transaction id, and cannot become the reader.
GRANT hoso24_reader TO hoso24_relay WITH INHERIT TRUE, SET FALSE;
-- The desk writes the books as the intake does; settings are not inherited, and stand above.
GRANT hoso24_writer TO hoso24_desk WITH INHERIT TRUE, SET FALSE;
