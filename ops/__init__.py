"""The operational parts of any small service: HTTP, stores, observability, settings. Knows no dossier."""
