"""HTTP: the server and its connections, answers before routing, middleware, access log, problems, probes."""
