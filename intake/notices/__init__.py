"""Tells citizens by mail, and through a gateway, what becomes of their dossiers, and unit heads what is late."""
