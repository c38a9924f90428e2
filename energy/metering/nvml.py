"""The energy counter of NVIDIA GPUs (Volta and later), in millijoules since the driver was loaded.

It advances about every 100 ms, so a window shorter than two seconds is uncertain by more than a twentieth.
"""

from __future__ import annotations

import time

from energy.metering.measurement import Measurement, check_power, reading_uncertainty_j
from leanrx_core.errors import UserError

UPDATE_S = 0.1


class Nvml:
    """The energy counter of one GPU.

    Args:
        gpu: its index in NVML, or its UUID, see :func:`energy.hardware.detect.gpu_uuid`.

    Raises:
        UserError: if there is no driver, or the GPU has no energy counter.
    """

    name, shortest_s = "NVML", 20 * UPDATE_S

    def __init__(self, gpu: int | str = 0) -> None:
        import pynvml

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            get_handle = pynvml.nvmlDeviceGetHandleByUUID if isinstance(gpu, str) else pynvml.nvmlDeviceGetHandleByIndex
            self._handle = get_handle(gpu)
            self._gpu_name = str(pynvml.nvmlDeviceGetName(self._handle))
            self._driver = str(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            raise UserError(f"NVML: no GPU can be read ({error}); needs an NVIDIA GPU and its driver") from None
        self._begin_j, self._begin_s = self._read_j(), time.perf_counter()

    def begin(self) -> None:
        """Read the counter."""
        self._begin_j, self._begin_s = self._read_j(), time.perf_counter()

    def end(self) -> list[Measurement]:
        """Read it again."""
        spent_j, duration_s = self._read_j() - self._begin_j, time.perf_counter() - self._begin_s
        if spent_j <= 0:
            raise UserError(
                f"NVML: the energy counter of {self._gpu_name} did not advance in {duration_s:.2g} s; "
                "make the window longer (metering.min_duration_s)"
            )
        what = f"NVML: the energy counter of {self._gpu_name} advanced by {spent_j:g} J"
        check_power(what, spent_j, duration_s, delay_s=UPDATE_S)
        resolution_j = max(1e-3, spent_j / duration_s * UPDATE_S)
        version, uncertainty_j = f"{self._gpu_name}, driver {self._driver}", reading_uncertainty_j(resolution_j)
        return [Measurement("gpu", spent_j, "measured", self.name, version, uncertainty_j, duration_s)]

    def _read_j(self) -> float:
        try:
            return 1e-3 * float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        except self._nvml.NVMLError as error:
            raise UserError(
                f"NVML: {self._gpu_name} has no energy counter that can be read ({error}); "
                "needs Volta or later and a whole GPU, no virtual slice; or read a wattmeter"
            ) from None
