"""Learned receivers: DeepRx, hybrid receivers, the registry of families, and weights on disk."""
