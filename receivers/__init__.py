"""Receivers, from slots to LLRs: classical, neural, evaluation, export, runtime and trained receivers.

A receiver is a callable from slots to LLRs, see :class:`Receiver`. Training is in the package ``distillation``. Names
are imported at first use, so ``import receivers.runtime`` does not load torch.

Example:
    >>> from channels import SlotStream, scenario
    >>> from receivers import load
    >>> receiver = load("tdl-6prb-hybrid-w5-d5-kd")
    >>> slots = SlotStream(scenario("tdl-6prb"), seed=1, block_slots=2, split="test").at_sinr(10).block(0)
    >>> tuple(receiver(slots).shape)
    (2, 4, 14, 72)
"""

try:
    import lazy_loader
except (
    ImportError
):  # a machine that only runs exported files has numpy and its runtime: then only receivers.runtime works
    __all__: list[str] = []
else:
    __getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
