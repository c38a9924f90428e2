"""Conversion factors between units."""

JOULES_PER_KWH = 3.6e6
"""Joules in a kilowatt-hour (exact: 1000 W times 3600 s)."""

SECONDS_PER_YEAR = 365.25 * 86400
"""Seconds in a Julian year."""
