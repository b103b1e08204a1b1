"""How long dossiers are kept, what keeps one longer, and what is known of one person."""
