"""Slots of OFDM data: the resource grid, 3GPP channels, interference, and the SINR axis.

Start with :func:`scenario` and :class:`SlotStream`. This package does not import any receiver. Names are loaded at their
first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
