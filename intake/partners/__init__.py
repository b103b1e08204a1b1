"""What partners' systems send, follow and are told."""
