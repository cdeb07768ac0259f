"""Thousands of made-up webhook bodies: `python -m tests.hostile --bodies 100000`."""
