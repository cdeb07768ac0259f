"""The ledger: deliveries, the work they lead to, and its results, on disk before we answer."""
