"""The service's objectives, and all that is made of them: rules, alerts, dashboards, the runbook's error budget.

`slo.toml` says what is promised, `alerts.toml` what else wakes somebody, `dashboards.toml` what there is to look at;
`python -m ops.monitoring` (or `make monitoring`) writes the rest.
"""
