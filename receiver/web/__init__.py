"""The HTTP endpoints and the server."""
