"""Attacks on a running receiver that anyone can run: `python -m tests.attack`."""
