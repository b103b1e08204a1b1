"""Officers' desks: pages on a host of their own, over the same ledger as the intake's."""
