"""A game day: a production-shaped system on one machine, under load, and one fault after the other.

It sees the service from outside, by HTTP, SQL and RESP, and imports nothing of intake and lookup.
"""
