"""What is allowed and when it is due: pure functions and types, no I/O."""
