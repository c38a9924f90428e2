from .base import Receiver as Receiver
from .classical import classical_receivers as classical_receivers
from .evaluation.error_counts import Counts as Counts
from .evaluation.error_counts import count_block as count_block
from .evaluation.monte_carlo import count_errors as count_errors
from .evaluation.rates import rates as rates
from .evaluation.required_sinr import gap_db as gap_db
from .evaluation.stopping import Evaluation as Evaluation
from .neural.registry import build as build
from .neural.weights import Card as Card
from .neural.weights import NeuralReceiver as NeuralReceiver
from .neural.weights import save as save
from .zoo import load as load

__all__ = [
    "Card",
    "Counts",
    "Evaluation",
    "NeuralReceiver",
    "Receiver",
    "build",
    "classical_receivers",
    "count_block",
    "count_errors",
    "gap_db",
    "load",
    "rates",
    "save",
]
