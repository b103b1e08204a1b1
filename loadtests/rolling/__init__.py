"""A rolling restart under load, as Kubernetes does it: `python -m loadtests.rolling`. It speaks HTTP only."""
