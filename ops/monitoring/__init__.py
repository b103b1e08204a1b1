"""The service's objectives, and all that is made of them: rules, alerts, dashboards, the runbook's error budget.

Beside the manifests, in k8s/components/monitoring, `slo.toml` says what is promised, `alerts.toml` what else pages or
opens a ticket, `dashboards.toml` what there is to look at; `make monitoring` writes the rest. Not in the image.
"""
