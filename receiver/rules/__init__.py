"""Which tags become which versions, and which channel may move to them. Pure."""
