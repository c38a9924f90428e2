"""What turns a slot into LLRs: classical receivers, DeepRx and its compact kin, error counting, export.

``receivers`` knows no training. A receiver is any callable from slots to LLRs, see :mod:`receivers.protocol`.
"""

from receivers.protocol import Receiver
from receivers.spec import build
from receivers.weights import Card, NeuralReceiver, save
from receivers.zoo import load

__all__ = ["Card", "NeuralReceiver", "Receiver", "build", "load", "save"]
