"""Checks of paired data and of the data sets known by name."""
