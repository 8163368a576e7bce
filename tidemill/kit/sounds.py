"""Sound as samples, opened safely: its length is looked at before any sample is decoded."""

import hashlib
import io
from typing import Any

import numpy as np

# Of those libsndfile opens; the others are each one more way in.
FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF")
# Of what is not one of these, libsndfile gives no integers that fit: floats are not scaled, codecs'
# overs wrap around.
INTEGERS = frozenset(["PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"])
MOST_BYTES = 64_000_000
MOST_SECONDS = 600
MOST_SAMPLES = 60_000_000  # of all channels together: 240 MB in memory while floats are read
RATES = (4_000, 192_000)  # samples a second


class UnfitSound(ValueError):
    """Bytes that are no sound we can use, with the reason."""


class _Held(io.BytesIO):
    """In a damaged file libsndfile seeks before its beginning.

    That is told as the end, since C cannot take an exception.
    """

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0, io.SEEK_END)


def opened(body: bytes, most_seconds: float = MOST_SECONDS) -> tuple[np.ndarray, int]:
    """Samples (N, channels) as int16, and how many there are a second. Raises Unfit."""
    import soundfile

    if len(body) > MOST_BYTES:
        raise UnfitSound(
            f"a sound of {len(body) / 1e6:.1f} MB, the limit is {MOST_BYTES / 1e6:.0f}"
        )
    try:
        with soundfile.SoundFile(_Held(body)) as file:
            _fits(file, most_seconds)
            # A head may promise less than there is, so what is read is bounded as well.
            most = min(int(most_seconds * file.samplerate), MOST_SAMPLES // file.channels)
            if file.subtype in INTEGERS:
                samples = file.read(most + 1, dtype="int16", always_2d=True)
            else:
                samples = integers(file.read(most + 1, dtype="float32", always_2d=True))
            rate = int(file.samplerate)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, UnfitSound):
            raise
        raise UnfitSound(f"not a whole sound ({', '.join(FORMATS)})") from error
    if len(samples) > most:
        raise UnfitSound(f"a sound of more than {most_seconds:g} seconds")
    if not len(samples):
        raise UnfitSound("a sound without a sample")
    return samples, rate


def integers(samples: np.ndarray) -> np.ndarray:
    """Floats as int16: 1 is the most, and what goes beyond is scaled down as a whole.

    Raises Unfit where one is no number.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise UnfitSound("a sound with samples that are NaN or infinite")
    scale = 32_768 / max(1.0, peak)
    return np.rint(samples * np.float32(scale)).clip(-32_768, 32_767).astype(np.int16)


def samples_digest(body: bytes) -> str:
    """Of a sound's samples and their rate: the same in whatever lossless file they lie.

    Raises Unfit.
    """
    samples, rate = opened(body)
    return hashlib.sha256(f"{samples.shape}{rate}".encode() + samples.tobytes()).hexdigest()


def _fits(file: Any, most_seconds: float) -> None:
    if file.format not in FORMATS:
        raise UnfitSound(f"a sound in {file.format}; {', '.join(FORMATS)} are read")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise UnfitSound(
            f"{file.samplerate} samples a second; between {RATES[0]:,} and {RATES[1]:,} are read"
        )
    if file.frames > most_seconds * file.samplerate:
        raise UnfitSound(f"a sound of more than {most_seconds:g} seconds")
    if file.frames * file.channels > MOST_SAMPLES:
        raise UnfitSound(
            f"a sound of {file.frames * file.channels:,} samples, the limit is {MOST_SAMPLES:,}"
        )


def mono(samples: np.ndarray, rate: int, wanted: int | None = None) -> tuple[np.ndarray, int]:
    """One channel (N,) as int16, the mean of all.

    Brought to `wanted` samples a second where that is given.
    """
    from math import gcd

    from scipy.signal import resample_poly

    one = (
        samples[:, 0]
        if samples.shape[1] == 1
        else np.rint(samples.astype(np.float32).mean(axis=1)).astype(np.int16)
    )
    if wanted is None or wanted == rate:
        return one, rate
    factor = gcd(wanted, rate)
    found = resample_poly(one.astype(np.float32), wanted // factor, rate // factor)
    return np.rint(found).clip(-32_768, 32_767).astype(np.int16), wanted


def flac(samples: np.ndarray, rate: int) -> bytes:
    """Samples (N,) of int16 as FLAC, which loses nothing."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()
