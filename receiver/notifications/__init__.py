"""Notification destinations and how they are sent."""
