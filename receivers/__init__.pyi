from .base import Receiver as Receiver
from .neural.registry import build as build
from .neural.weights import Card as Card
from .neural.weights import NeuralReceiver as NeuralReceiver
from .neural.weights import save as save
from .zoo import load as load

__all__ = [
    "Card",
    "NeuralReceiver",
    "Receiver",
    "build",
    "load",
    "save",
]
