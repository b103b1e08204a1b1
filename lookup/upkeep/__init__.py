"""A lookup process's background work: the pulse, the service status, reports for operators."""
