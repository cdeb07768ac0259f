"""The ledger: what was told, what is to be done, and what came of it. Durable before we answer."""
