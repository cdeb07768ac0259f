"""Outgoing HTTP: proxies, certificates, bodies of a bounded size."""
