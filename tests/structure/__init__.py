"""Checks of the structure metrics."""
