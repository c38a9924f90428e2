"""Classical receivers: estimate the channel, combine the antennas, demap.

All of them are told the mean noise-plus-interference power of the slot. All but the two IRC receivers treat
interference as white noise.
"""

from receivers.classical.demapper import Demapper, combine, demap
from receivers.classical.estimation import Covariance, LmmseEstimator, ls_estimate, robust_estimator
from receivers.classical.interference import combine_rejecting, residual_covariance, whiten
from receivers.classical.receivers import (
    BOUNDS,
    LmmseIrcReceiver,
    LmmseReceiver,
    LsReceiver,
    PerfectCsiIrcReceiver,
    PerfectCsiReceiver,
    classical_receivers,
)

__all__ = [
    "BOUNDS",
    "Covariance",
    "Demapper",
    "LmmseEstimator",
    "LmmseIrcReceiver",
    "LmmseReceiver",
    "LsReceiver",
    "PerfectCsiIrcReceiver",
    "PerfectCsiReceiver",
    "classical_receivers",
    "combine",
    "combine_rejecting",
    "demap",
    "ls_estimate",
    "residual_covariance",
    "robust_estimator",
    "whiten",
]
