"""A year of the whole country, as far as the disk allows: what it takes to load, to keep and to look up.

`make national` goes up in steps; see `__main__`. What was measured is kept in `measured.json`, and RESULTS.md says it.
"""
