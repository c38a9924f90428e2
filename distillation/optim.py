"""LAMB, the optimiser of DeepRx: Adam with a trust ratio for each parameter tensor."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Lamb(torch.optim.Optimizer):
    """LAMB (Y. You et al., 1904.00962, algorithm 2, with the identity as phi).

    ``u = m_hat / (sqrt(v_hat) + eps) + weight_decay * w`` and ``w -= lr * |w| / |u| * u``. The ratio is 1 where either
    norm is 0.

    Args:
        params: parameters to optimise.
        lr: learning rate.
        betas: decay of the running means of gradient and squared gradient.
        eps: added to the denominator.
        weight_decay: decoupled weight decay.

    Example:
        The length of a step is the learning rate times the norm of the weights.

        >>> weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> optimizer = Lamb([weights], lr=0.1)
        >>> weights.grad = torch.tensor([0.0, 2.0])
        >>> optimizer.step()
        >>> weights.detach()
        tensor([3.0000, 3.5000])
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # a closure is not supported
        """Take one step. Parameters without a gradient do not change."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p] = {
                        "step": torch.zeros(()),
                        "exp_avg": torch.zeros_like(p),
                        "exp_avg_sq": torch.zeros_like(p),
                    }
            states = [self.state[p] for p in params]
            grads = [p.grad for p in params]
            first, second = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
            beta1, beta2 = group["betas"]
            torch._foreach_add_([s["step"] for s in states], 1)
            torch._foreach_lerp_(first, grads, 1 - beta1)
            torch._foreach_mul_(second, beta2)
            torch._foreach_addcmul_(second, grads, grads, 1 - beta2)
            count = int(states[0]["step"])
            scale = torch._foreach_div(second, 1 - beta2**count)
            torch._foreach_sqrt_(scale)
            torch._foreach_add_(scale, group["eps"])
            update = torch._foreach_div(first, 1 - beta1**count)
            torch._foreach_div_(update, scale)
            torch._foreach_add_(update, params, alpha=group["weight_decay"])
            norms = zip(torch._foreach_norm(params), torch._foreach_norm(update), strict=True)
            ratios = [torch.where((w > 0) & (u > 0), w / u, 1.0) * -group["lr"] for w, u in norms]
            torch._foreach_mul_(update, ratios)
            torch._foreach_add_(params, update)
