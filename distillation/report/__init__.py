"""The BER / energy trade-off of a run, and what its sweep answers: one HTML page that opens offline, figures, tables.

::

    counts, joules --> analysis (gains) --> figures, sweeps --> drawing --> PNG, PDF
                           |                                       |
                           +--> answers: sentences, tables         +--> page
                       ledger --> ecal: life cycles ------------------> page
"""

from distillation.report.page import write_report

__all__ = ["write_report"]
