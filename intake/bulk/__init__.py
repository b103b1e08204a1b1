"""Imports files of dossiers: the dialects, the loader, the command."""
