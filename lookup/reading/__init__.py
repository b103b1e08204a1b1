"""From a code to a truthful answer: process memory, Redis, PostgreSQL, and what may be believed of each."""
