"""What a training cost.

Time, processor time, memory, samples and tokens a second, and an estimate of energy.
"""

import os
import resource
import time
from pathlib import Path

# of a busy core of a server: 200 to 280 W for 24 to 28 cores under load (SPECpower_ssj2008 results,
# 2019 to 2023)
WATTS_A_CORE = 10.0
RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")


def _processor_s() -> float:
    told = os.times()
    return told.user + told.system + told.children_user + told.children_system


def _joules() -> float | None:
    """What the processor's own meter says; None where it is not there or not ours to read."""
    try:
        return int(RAPL.read_text()) / 1e6
    except (OSError, ValueError):
        return None


class Meter:
    """Runs from when it is made; `told` may be asked once."""

    def __init__(self) -> None:
        self.began, self.processor_s, self.joules = time.monotonic(), _processor_s(), _joules()

    def told(self, samples: float, tokens: float) -> tuple[dict[str, float], str]:
        """Figures by name, unit in it, and the method of the energy estimate."""
        wall_s = time.monotonic() - self.began
        processor_s = _processor_s() - self.processor_s
        found = {
            "cost.wall_s": wall_s,
            "cost.processor_s": processor_s,
            "cost.peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "cost.samples_per_s": samples / wall_s,
        }
        if tokens:
            found["cost.tokens_per_s"] = tokens / wall_s
        if (gpu := _gpu_peak_mb()) is not None:
            found["cost.gpu_peak_mb"] = gpu
        now = _joules()
        if self.joules is not None and now is not None and now >= self.joules:
            return {
                **found,
                "cost.energy_wh": (now - self.joules) / 3600,
            }, "RAPL, the whole processor package"
        return (
            {**found, "cost.energy_wh": processor_s * WATTS_A_CORE / 3600},
            (
                f"processor seconds times {WATTS_A_CORE:g} W a core, no meter can be read here; a "
                "GPU is not counted"
            ),
        )


def _gpu_peak_mb() -> float | None:
    import torch

    return torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
