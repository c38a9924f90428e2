"""Experiments: the configuration, the plan of what to train, the run folder, and the steps of a run."""
