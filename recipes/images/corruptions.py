"""Corruptions of small pictures, the same for the same seed.

A worse camera, a worse light, a worse scan.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tidemill.kit import pictures
from tidemill.kit.perturbations import generator

NOISE = 0.1  # standard deviation, of 1
BLUR = 0.8  # pixels, standard deviation
CONTRAST = 0.5  # what is left of it, around the middle grey
SHIFT = 2  # pixels
PATCH = 0.2  # of the side


def noise(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return pixels + random.normal(0, 255 * NOISE, pixels.shape)


def blur(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(pixels, BLUR)


def contrast(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return 127.5 + (pixels - 127.5) * CONTRAST


def shift(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    down, right = (int(step) for step in random.choice([-SHIFT, SHIFT], size=2))
    height, width = pixels.shape
    out = np.zeros_like(pixels)
    out[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = pixels[
        max(0, -down) : height + min(0, -down), max(0, -right) : width + min(0, -right)
    ]
    return out


def patch(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A grey square somewhere, as of a thumb or a stain."""
    size = max(1, round(min(pixels.shape) * PATCH))
    top, left = (int(random.integers(0, edge - size + 1)) for edge in pixels.shape)
    out = pixels.copy()
    out[top : top + size, left : left + size] = 127
    return out


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "shift": shift,
    "patch": patch,
}


def harmed(payloads: Sequence[bytes], seed: int) -> dict[str, list[bytes]]:
    """Every corruption of every picture, by name, as PNG."""
    asked = [
        np.asarray(pictures.grey(pictures.opened(body)), dtype=np.float64) for body in payloads
    ]
    return {
        name: [
            pictures.png(change(pixels, generator(seed, name, body)).round().clip(0, 255))
            for pixels, body in zip(asked, payloads, strict=True)
        ]
        for name, change in KINDS.items()
    }
