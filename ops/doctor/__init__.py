"""The parts of `hoso24 doctor`: findings, their report, and checks that know no domain."""

SERVER_DEADLINE = 2.5
"""Timeout of one answer of a server, in seconds; well below a check's (findings.DEADLINE)."""
