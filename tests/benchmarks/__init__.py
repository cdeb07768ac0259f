"""Measurements, each run by hand: `python -m tests.benchmarks.NAME`. No test, and never in CI."""
