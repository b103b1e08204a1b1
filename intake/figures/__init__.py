"""Public figures: what agencies received and finished, by month, and what they have in hand, counted from the books."""
