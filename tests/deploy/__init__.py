"""Tests of a student in use."""
