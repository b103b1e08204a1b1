"""Servers and processes on one machine, for `make up`, the tests and the load tests; not in the image."""
