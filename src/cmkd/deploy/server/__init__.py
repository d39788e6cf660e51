"""Serve a student over HTTP: a prediction endpoint, limits on every request, health and metrics."""
