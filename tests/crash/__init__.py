"""A crash test that anyone can run: `python -m tests.crash --minutes 5`."""
