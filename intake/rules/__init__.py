"""What is allowed, and by when: pure functions and types, no I/O."""
