-- What every role may do in a new database, and none of ours needs: run in the database itself by the server's
-- administrator, after roles.sql (`hoso24 migrate` does both when it is given HOSO24_PG_ADMIN_URL). Safe to run again.
--
-- With these a role that may only read could fill the disk (temporary tables, large objects), take the relay's lock, or
-- get a transaction id: changes are delivered in the order of commits, and wait for every open transaction that has one.
-- pg_advisory_unlock* stays: it releases the session's own locks only, and drivers call it when they reset a session.
DO $$
DECLARE
    each regprocedure;
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    FOR each IN
        SELECT oid
          FROM pg_proc
         WHERE pronamespace = 'pg_catalog'::regnamespace
           AND (proname ~ '^(pg_advisory_lock|pg_advisory_xact_lock|pg_try_advisory|lo_)'
                OR proname IN ('loread', 'lowrite', 'pg_current_xact_id', 'txid_current', 'pg_logical_emit_message'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', each);
    END LOOP;
END $$;

GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint)          TO hoso24_owner;   -- one migrator at a time
GRANT EXECUTE ON FUNCTION pg_try_advisory_xact_lock(bigint) TO hoso24_writer;  -- one request of an idempotency key
GRANT EXECUTE ON FUNCTION pg_try_advisory_lock(bigint)      TO hoso24_relay;   -- one leader
GRANT EXECUTE ON FUNCTION pg_current_xact_id()              TO hoso24_owner, hoso24_writer, hoso24_relay;
