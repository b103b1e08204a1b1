"""Generates rules, alerts, dashboards and the runbook's error budget from the service's objectives.

In k8s/components/monitoring, `slo.toml` declares the objectives, `alerts.toml` the other alerts, `dashboards.toml` the
dashboards; `make monitoring` writes the generated files. Not in the image.
"""
