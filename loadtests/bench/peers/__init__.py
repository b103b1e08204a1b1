"""Peers that do the same work as the lookup, each written as a good team would write it in an afternoon.

All of them take PEER_PORT, and what else they need of PEER_POSTGRES_URL, PEER_REDIS_URL and PEER_ANSWER, from the
environment. They serve `GET /api/v1/dossiers/{code}` with the anonymous view and promise nothing else: no freshness,
no failures survived, no limits. What they leave out makes them faster, not slower.
Their pools have thirty-two connections: of 4 to 64 (Postgres) and 16 to 64 (Redis), that was the fastest under the
bench's own loads.
"""
