"""From a push to a version in a channel."""
