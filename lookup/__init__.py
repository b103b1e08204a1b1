"""The lookup of a dossier's status, and the domain's types: codes, statuses, records, their stored form."""
