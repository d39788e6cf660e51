"""Simulators that make paired data no one can publish."""
