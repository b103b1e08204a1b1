"""Calls to servers of others: where they may lead, how they are signed, and one bounded POST."""
