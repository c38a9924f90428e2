"""Estimating time and energy from counts, and validating the estimates against measurements."""
