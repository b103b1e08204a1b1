"""Reads dossiers from process memory, Redis and PostgreSQL, and decides which copies may be trusted."""
