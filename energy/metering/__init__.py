"""Metering energy: instruments, metering sessions, and the table of measurements."""
