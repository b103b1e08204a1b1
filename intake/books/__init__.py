"""What is written, in what order, how it reaches the lookup, and how it can be verified."""
