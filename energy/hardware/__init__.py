"""What computes: device records, detection and calibration of this machine, and a check of its instruments."""
