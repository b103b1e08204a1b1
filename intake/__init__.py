"""Accepts dossiers and status changes from those who own them, and tells the lookup about each change."""
