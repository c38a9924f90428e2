"""leanrx: find the smallest neural OFDM receiver that still does its job, and what it costs in joules.

This package is the application: experiments, life cycles, reports and the command line. It is the only one that knows
run folders. The building blocks are the packages :mod:`channels`, :mod:`receivers`, :mod:`energy`,
:mod:`distillation` and :mod:`carbon`.
"""

__version__ = "0.1.0"
