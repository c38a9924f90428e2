"""The BER / energy trade-off of a run, as one HTML page that opens offline, with figures and tables."""

from leanrx.report.page import write_report

__all__ = ["write_report"]
