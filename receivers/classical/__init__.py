"""Classical receivers: estimate the channel, combine the antennas, demap.

All of them have genie knowledge of the slot's mean noise-plus-interference power. All but the two IRC receivers treat
interference as white noise.
"""

from receivers.classical.baselines import (
    GENIE_AIDED,
    LmmseIrcReceiver,
    LmmseReceiver,
    LsReceiver,
    PerfectCsiIrcReceiver,
    PerfectCsiReceiver,
    classical_receivers,
    formula_count,
    is_exact_lmmse,
)
from receivers.classical.channel_estimation import Covariance, LmmseEstimator
from receivers.classical.combining import mmse_irc_combine, mrc, residual_covariance, whiten_with_genie_csi
from receivers.classical.demapping import Demapper, demap
from receivers.classical.least_squares import LsErrorPower, ls_estimate
from receivers.classical.robust_estimation import robust_lmmse_estimate

__all__ = [
    "GENIE_AIDED",
    "Covariance",
    "Demapper",
    "LmmseEstimator",
    "LmmseIrcReceiver",
    "LmmseReceiver",
    "LsErrorPower",
    "LsReceiver",
    "PerfectCsiIrcReceiver",
    "PerfectCsiReceiver",
    "classical_receivers",
    "demap",
    "formula_count",
    "is_exact_lmmse",
    "ls_estimate",
    "mmse_irc_combine",
    "mrc",
    "residual_covariance",
    "robust_lmmse_estimate",
    "whiten_with_genie_csi",
]
