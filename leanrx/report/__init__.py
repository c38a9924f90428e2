"""The report of a run: one HTML page that opens offline, with figures, tables and sentences.

:class:`leanrx.report.results.RunResults` holds the typed results of a run, computed once. Tables, figures and sentences
are pure functions of it. Start with :func:`leanrx.report.page.write_report`.
"""
