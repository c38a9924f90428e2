"""LAMB against the algorithm of its paper."""

import torch

from distillation.optim import Lamb


def test_lamb_follows_its_algorithm() -> None:
    """Against the algorithm of the paper written out for one tensor."""
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(5, 3, generator=generator)
    p, zero = torch.nn.Parameter(w.clone()), torch.nn.Parameter(torch.zeros(2))
    optimizer = Lamb([p, zero], lr=0.1, weight_decay=0.01)
    m = v = torch.zeros_like(w)
    for t in range(1, 6):
        g = torch.randn(5, 3, generator=generator)
        p.grad, zero.grad = g.clone(), torch.ones(2)
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        r = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-6) + 0.01 * w
        w = w - 0.1 * w.norm() / r.norm() * r
        torch.testing.assert_close(p.data, w, atol=1e-5, rtol=1e-5)
        if t == 1:
            torch.testing.assert_close(zero.data, torch.full((2,), -0.1), atol=1e-5, rtol=0)
