"""What a receiver costs: counting operations, describing devices, metering, estimating, and eCAL.

``energy`` knows no distillation. Every joule is marked as measured, modelled or assumed.
"""
