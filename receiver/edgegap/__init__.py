"""Edgegap's v1 API. Its field names stay in here."""
