"""What a receiver costs: counting, devices, estimating, metering, agreement, carbon, and eCAL.

``energy`` knows no distillation. Start with :func:`energy.layers.count_slots`, :data:`energy.estimators.ESTIMATORS` and
:func:`energy.window.meter_windows`; every joule is marked measured, modelled or assumed.
"""
