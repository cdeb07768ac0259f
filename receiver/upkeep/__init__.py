"""Background tasks other than the worker, and operations on request."""
