"""What runs beside the worker, or on request."""
