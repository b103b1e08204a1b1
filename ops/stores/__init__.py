"""PostgreSQL and Redis as clients see them: URLs, certificates, calls with deadlines and breakers, Sentinels."""
