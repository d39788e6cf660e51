"""Checks of the methods: one row each in `table.py`."""
