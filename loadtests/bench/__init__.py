"""Benchmarks: ratios measured in one run, on the same servers; never assertions."""
