"""Receivers, from slots to LLRs: classical receivers, DeepRx, hybrids, evaluation, export and trained receivers.

This package knows no training. A receiver is any callable from slots to LLRs, see :class:`Receiver`. Names are
loaded at their first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
