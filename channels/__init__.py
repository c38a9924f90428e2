"""Simulated slots of OFDM data: the resource grid, 3GPP channels, interference, and test points in SINR.

Start with :func:`scenario` and :class:`SlotStream`. Names are loaded at their first use. This
package imports no receiver.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
