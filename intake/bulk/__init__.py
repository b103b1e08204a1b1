"""Files of dossiers: their dialects, the loader, the command."""
