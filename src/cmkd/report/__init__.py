"""Write a run, an analysis, an evaluation or a check of data as one HTML page that needs no other file."""

from cmkd.report.page import write_report as write_report
