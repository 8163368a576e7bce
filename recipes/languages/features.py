"""Text to hashed character n-grams: the same numbers in training, in scoring and in the server.

"Ja" becomes the 1- to 4-grams of " ja ", each hashed into one of `buckets` rows of the table.
"""

import numpy as np

_PRIME = np.uint64(1_000_003)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Fibonacci hashing (Knuth, TAOCP 6.4)


def ngrams(text: str, bits: int, longest: int = 4, max_chars: int = 600) -> np.ndarray:
    """The n-gram ids (T,) of a text, int64, each below 2^bits; never empty."""
    padded = f" {text[:max_chars].lower()} "
    codes = np.frombuffer(padded.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    found = []
    rolled = np.zeros(len(codes), dtype=np.uint64)
    for size in range(1, longest + 1):
        if len(codes) < size:
            break
        rolled = rolled[: len(codes) - size + 1] * _PRIME + codes[size - 1 :] + np.uint64(size)
        found.append(((rolled * _MIX) >> np.uint64(64 - bits)).astype(np.int64))
    return np.concatenate(found)


def padded(ids: list[np.ndarray], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids as one array (B, T), filled up with `padding`.

    Beside it their lengths (B,) float32.
    """
    lengths = np.array([len(item) for item in ids], dtype=np.float32)
    out = np.full((len(ids), max(map(len, ids))), padding, dtype=np.int64)
    for row, item in enumerate(ids):
        out[row, : len(item)] = item
    return out, lengths
