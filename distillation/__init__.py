"""How small learns from big: training, distillation, sweeps, the report, and the command line.

The package imports nothing by itself, so that ``leanrx --help`` is instant.
"""
