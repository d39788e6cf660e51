"""Simulators of paired data that cannot be measured or published."""
