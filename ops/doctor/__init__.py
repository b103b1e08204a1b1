"""What `hoso24 doctor` is made of: findings, their report, and the checks of a PostgreSQL server."""
