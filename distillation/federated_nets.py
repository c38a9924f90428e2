"""The three networks of DETA's case study, with the article's numbers of parameters."""

from __future__ import annotations

import torch
from torch import nn

SYMBOLS = 258
"""Of the text network: 256 bytes, and two that no text has."""


def digit_mlp(seed: int = 1) -> nn.Sequential:
    """784 - 200 - 10, of images ``(N, 1, 28, 28)``. The article's number of parameters has one hidden layer.

    Example:
        >>> sum(p.numel() for p in digit_mlp().parameters())
        159010
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def digit_cnn(seed: int = 1) -> nn.Sequential:
    """Two 5 x 5 convolutions of 16 and 32 channels, each with pooling, then 120 - 84 - 62.

    The article's number of parameters has 62 outputs. Ten of them are classes of digits.

    Example:
        >>> sum(p.numel() for p in digit_cnn().parameters())
        90242
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(512, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 62)),
        )


class PeepholeLstm(nn.Module):
    """A layer of long short-term memory with peepholes and one set of biases (Gers and Schmidhuber, IJCNN 2000).

    ``i = sigmoid(W_i x + U_i h + p_i c + b_i)``, ``f`` likewise, ``c' = f c + i tanh(W_g x + U_g h + b_g)``,
    ``o = sigmoid(W_o x + U_o h + p_o c' + b_o)`` and ``h' = o tanh(c')``. State is 0 before the first step.

    Args:
        num_inputs: of each step.
        num_units: of the layer.
    """

    def __init__(self, num_inputs: int, num_units: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(num_inputs, 4 * num_units)
        self.recurrent = nn.Linear(num_units, 4 * num_units, bias=False)
        self.peepholes = nn.Parameter(torch.zeros(3, num_units))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs ``(N, steps, units)`` of inputs ``(N, steps, inputs)``."""
        from_inputs = self.inputs(x)
        cell = x.new_zeros(len(x), self.peepholes.shape[1])
        output, outputs = cell, []
        for step in range(x.shape[1]):
            i, f, g, o = (from_inputs[:, step] + self.recurrent(output)).chunk(4, 1)
            input_gate = torch.sigmoid(i + self.peepholes[0] * cell)
            forget_gate = torch.sigmoid(f + self.peepholes[1] * cell)
            cell = forget_gate * cell + input_gate * torch.tanh(g)
            output = torch.sigmoid(o + self.peepholes[2] * cell) * torch.tanh(cell)
            outputs.append(output)
        return torch.stack(outputs, 1)


def text_lstm(seed: int = 1) -> nn.Sequential:
    """Next character: an embedding of 8, two layers of 256 units, and 258 symbols.

    Example:
        >>> sum(p.numel() for p in text_lstm().parameters())
        866578
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (PeepholeLstm(8, 256), PeepholeLstm(256, 256))
        return nn.Sequential(nn.Embedding(SYMBOLS, 8), *layers, nn.Linear(256, SYMBOLS))
