"""What any small service needs to run for years; knows no dossier."""
