"""A game day: a production-shaped system on one machine, under load, and one fault after the other.

It judges by HTTP answers, by the log in PostgreSQL and by the stream in Redis; it imports nothing of intake and lookup.
"""
