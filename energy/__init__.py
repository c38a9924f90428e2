"""What a receiver costs: counting, devices, estimating, metering, and eCAL.

``energy`` knows no distillation. Start with :func:`energy.operations.count`, :func:`energy.estimate.estimates` and
:class:`energy.meter.Meter`; every joule is marked measured, modelled or assumed.
"""
