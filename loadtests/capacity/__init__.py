"""How much of everything it takes, and how long a year it is away: docs/capacity.md, made of what was measured.

Nothing on that page is typed in: figures come from the bench, from the steps of the whole country, from `handshakes`
and from the last full game day; what cannot be measured is assumed in `assumptions.toml`, each with its reason; how
much there is in production stands in the manifests; what is promised, in k8s/components/monitoring/slo.toml.
"""
