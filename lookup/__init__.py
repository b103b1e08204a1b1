"""Answers "where does this dossier stand?", and owns the words: codes, statuses, records, their stored form."""
