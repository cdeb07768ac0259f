"""The receiver's tests."""
