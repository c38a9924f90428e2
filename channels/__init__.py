"""Slots of OFDM data: the resource grid, 3GPP channels, interference, and the SINR axis.

This package knows no receiver. Start with :func:`scenario` and :class:`SlotStream`. Names are loaded at their first use,
so that a program that needs only a scenario does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
