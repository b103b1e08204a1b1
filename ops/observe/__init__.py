"""Observability: logs without personal data, metrics, traces."""
