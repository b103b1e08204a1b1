-- outside a transaction
-- For the pages of open letters, and for their count. Closed letters stay for thirty days and are not read.
CREATE INDEX CONCURRENTLY IF NOT EXISTS dead_letter_open ON dead_letter (client, n) INCLUDE (first_at) WHERE closed_at IS NULL;
