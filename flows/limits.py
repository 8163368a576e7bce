"""What a night may cost: minutes, money, disk. Reaching one ends the night properly."""

import shutil
import time

from tidemill.engines.config.schema import NightLimits
from tidemill.runtime import paths


def spent(limits: NightLimits, began: float) -> str | None:
    """Which limit is reached, in words; None where none is. `began` is a time.monotonic()."""
    minutes = (time.monotonic() - began) / 60
    if minutes >= limits.minutes:
        return f"the night's {limits.minutes:g} minutes are spent"
    cost = minutes / 60 * limits.price_per_hour
    if limits.price and cost >= limits.price:
        hourly = f"at {limits.price_per_hour:g} an hour"
        return f"the night has cost {cost:.2f} of {limits.price:g} ({hourly})"
    free_gb = shutil.disk_usage(paths.root()).free / 1e9
    if free_gb < limits.disk_free_gb:
        return (
            f"{free_gb:.1f} GB of disk are free, and {limits.disk_free_gb:g} must stay so; "
            "tidemill clean frees some"
        )
    return None
