-- The day of an office at its desk: what it accepted, returned, asked supplements for and refused, in an index of about
-- two entries a dossier. And the few events that exceeded a rule, for the heads of units. Bulk events are of imports: the
-- days of theirs are in the register of another system.
-- outside a transaction

CREATE INDEX CONCURRENTLY IF NOT EXISTS event_of_a_day ON event (origin, occurred_at)
 WHERE NOT bulk AND (occurred_at = received_at OR status IN (3, 5, 10));

CREATE INDEX CONCURRENTLY IF NOT EXISTS event_beyond_a_rule ON event (agency, recorded_at)
 WHERE detail LIKE '%"rules":%';
