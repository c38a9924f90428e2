"""Classical receivers: estimate the channel, combine the antennas, demap.

All of them are told the mean noise-plus-interference power of the slot and treat interference as white noise.
"""

from receivers.classical.demapper import combine, demap
from receivers.classical.estimation import Covariance, ls_estimate
from receivers.classical.receivers import LmmseReceiver, LsReceiver, PerfectCsiReceiver, classical_receivers

__all__ = [
    "Covariance",
    "LmmseReceiver",
    "LsReceiver",
    "PerfectCsiReceiver",
    "classical_receivers",
    "combine",
    "demap",
    "ls_estimate",
]
