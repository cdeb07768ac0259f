"""Made-up bodies by the thousand at the door: `python -m tests.hostile --bodies 100000`."""
