"""A run's folder as one HTML page that needs nothing beside it."""

from cmkd.report.page import write_report as write_report
