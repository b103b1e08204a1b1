"""Clients of PostgreSQL and Redis: URLs, certificates, calls with timeouts and breakers, Sentinels."""
