"""How long dossiers are kept, what keeps one longer, and what is known of one person."""

from typing import Final

LONG_READS: Final = {"transaction_timeout": "30min"}
"""Settings of sessions that read every dossier once. They write in short transactions, so delivery does not wait."""
