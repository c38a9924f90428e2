"""Training of neural receivers, and knowledge distillation from large to small ones.

Start with :func:`train`, which trains a list of :class:`Job`. :class:`Training` and :class:`Distillation` are the
settings of a job. Names are loaded at their first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
