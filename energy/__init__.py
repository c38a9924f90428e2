"""What a receiver costs: counting, devices, estimating, metering, agreement, carbon, and eCAL.

``energy`` knows no distillation. Start with :func:`energy.counting.torch_net.count_slots`, :data:`energy.estimation.estimators.ESTIMATORS` and
:func:`energy.metering.session.meter_windows`; every joule is marked measured, modelled or assumed.
"""
