"""Local servers and processes, for `make up`, the tests and the load tests; not in the image."""
