-- An event is of the epoch that is the newest when it is inserted. Relay and notary go through the log by epoch and never
-- return to one that they have left: an event of an earlier one would be in the row and in nobody's books.
--
-- What this cannot see: an epoch that begins between the insertion and its commit, or behind the snapshot of a transaction
-- that keeps one. The notary waits for transactions of the ten seconds that the roles have (TURN_AFTER); one that was kept
-- open for longer, over the beginning of an epoch, is found by `hoso24 audit verify`.

CREATE FUNCTION event_is_of_the_present_epoch() RETURNS trigger
LANGUAGE plpgsql
SET search_path = hoso24, pg_temp
AS $$
DECLARE
    newest integer;
BEGIN
    SELECT max(number) INTO newest FROM epoch;
    IF EXISTS (SELECT FROM new_event WHERE epoch <> newest) THEN
        RAISE EXCEPTION 'events are of epoch % now', newest
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'event_is_of_the_present_epoch';
    END IF;
    RETURN NULL;
END $$;

REVOKE EXECUTE ON FUNCTION event_is_of_the_present_epoch() FROM PUBLIC;

CREATE TRIGGER event_is_of_the_present_epoch
 AFTER INSERT ON event
 REFERENCING NEW TABLE AS new_event
   FOR EACH STATEMENT EXECUTE FUNCTION event_is_of_the_present_epoch();
