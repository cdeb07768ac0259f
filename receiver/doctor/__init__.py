"""Checks a setup and reports what will fail."""
