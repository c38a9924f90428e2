"""Life cycles of the receivers of a run: their energy inventory, eCAL and energy payback time."""
