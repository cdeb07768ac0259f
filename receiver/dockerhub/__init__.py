"""Docker Hub: its webhook, its registry, its API."""
