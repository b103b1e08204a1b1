"""Accepts dossiers and status changes from agencies and portals, and passes each change on to the lookup."""
