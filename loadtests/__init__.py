"""Load tests from outside: they know URLs and the documented contract, and import nothing of the service."""
