"""What `hoso24 doctor` is made of: findings, their report, and checks that know no domain."""

SERVER_DEADLINE = 2.5
"""How long a server may take for one answer, in seconds; well within a check's (findings.DEADLINE)."""
