"""Checks of paired data."""
