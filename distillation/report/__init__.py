"""The BER / energy trade-off of a run: one HTML page that opens offline, figures and tables."""

from distillation.report.page import write_report

__all__ = ["write_report"]
