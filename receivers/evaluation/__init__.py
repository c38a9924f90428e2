"""Evaluating receivers: Monte Carlo error counts, confidence intervals, required SINR, and comparisons."""
