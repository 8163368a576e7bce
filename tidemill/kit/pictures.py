"""Pictures as bytes, opened safely: the same in cleaning, in training and in the server."""

import base64
import binascii
import hashlib
import io
import math
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")  # pillow knows forty more, each one more way in
MOST_BYTES = 64_000_000  # a telephone's picture of 108 megapixels is 30 MB
MOST_MEMORY = 256_000_000  # bytes that decoding may take: 64 megapixels in colour
KEPT_PIXELS = 4_000_000  # a larger picture is decoded, or brought, to no more than about this
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    OverflowError,
    IndexError,
    TypeError,
    KeyError,
    ZeroDivisionError,
)  # what decoders raise


class UnfitPicture(ValueError):
    """Bytes that are no picture we can use, with the reason."""


def opened(body: bytes, kept_pixels: int = KEPT_PIXELS) -> Any:
    """A PIL picture, upright, of at most about `kept_pixels`. Raises Unfit.

    What decoding will take is computed from the head, before any pixel is decoded.
    """
    from PIL import Image

    if len(body) > MOST_BYTES:
        raise UnfitPicture(
            f"a picture of {len(body) / 1e6:.1f} MB, the limit is {MOST_BYTES / 1e6:.0f}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is asked
            picture = Image.open(io.BytesIO(body), formats=FORMATS)
            _drafted(picture, kept_pixels)
            picture.load()
            return _upright(_reduced(picture, kept_pixels))
    except UnfitPicture:
        raise
    except Image.DecompressionBombError as error:  # pillow's own limit, hit before ours is asked
        raise UnfitPicture(f"a picture of far more pixels than {_memory_limit()}") from error
    except DAMAGE as error:
        raise UnfitPicture(f"not a whole picture ({', '.join(FORMATS)})") from error


def _memory_limit() -> str:
    return f"{MOST_MEMORY / 1e6:.0f} MB hold once it is decoded; save it smaller"


def _drafted(picture: Any, kept_pixels: int) -> None:
    """Have a JPEG decoded at an eighth to a half of its size where that is enough.

    What would not fit in memory is refused.
    """
    width, height = picture.size
    pixels = width * height
    needed = 4 * pixels  # pillow holds colour in four bytes
    if picture.format == "JPEG":
        shrunk = 1
        while shrunk < 8 and pixels / (2 * shrunk) ** 2 >= kept_pixels:
            shrunk *= 2
        if shrunk > 1:
            picture.draft(None, (width // shrunk, height // shrunk))
        coefficients = 4 * pixels if picture.info.get("progressive") else 0
        needed = 4 * picture.size[0] * picture.size[1] + coefficients
    if needed > MOST_MEMORY:
        raise UnfitPicture(
            f"a picture of {width} x {height} pixels, which is more than {_memory_limit()}"
        )


def _reduced(picture: Any, kept_pixels: int) -> Any:
    """A decoded picture as a mean of squares of its pixels, where it has more than are kept."""
    width, height = picture.size
    factor = math.ceil(math.sqrt(width * height / kept_pixels))
    if factor < 2 or picture.mode not in (
        "1",
        "L",
        "P",
        "LA",
        "PA",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
    ):
        return picture
    orientation = picture.getexif().get(ORIENTATION, 1)
    if picture.mode in ("P", "PA", "1"):
        picture = picture.convert("L" if picture.mode == "1" else "RGBA")
    small = picture.reduce((min(factor, width), min(factor, height)))
    small.getexif()[ORIENTATION] = orientation
    return small


ORIENTATION = 0x0112  # EXIF 2.3, 4.6.4


def _upright(picture: Any) -> Any:
    """The picture as its camera's note on orientation says that it is to be seen."""
    from PIL import Image

    turned = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(picture.getexif().get(ORIENTATION, 1))
    return picture if turned is None else picture.transpose(turned)


def grey(picture: Any) -> Any:
    """Any mode as 8-bit grey: what is transparent is black, 16 bits lose their lower eight."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        pixels = np.asarray(picture, dtype=np.float64)
        is_deep = picture.mode.startswith("I;16") or pixels.max(initial=0) > 255
        return Image.fromarray((pixels / 256 if is_deep else pixels).clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "P") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    return picture.convert("L")


def square(picture: Any, side: int) -> Any:
    """A grey picture of side x side: scaled by its longest side, then in the middle of black.

    It is scaled first, so one of 4 x 40,000 pixels takes no more memory than it has itself.
    """
    from PIL import Image

    longest = max(picture.size)
    way = Image.Resampling.BOX if longest > side else Image.Resampling.BILINEAR
    width, height = (max(1, round(size * side / longest)) for size in picture.size)
    scaled = picture if picture.size == (width, height) else picture.resize((width, height), way)
    if (width, height) == (side, side):
        return scaled
    whole = Image.new("L", (side, side))
    whole.paste(scaled, ((side - width) // 2, (side - height) // 2))
    return whole


HASH_SIDE = 8
SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"GIF8", b"BM", b"RIFF")  # the first bytes of FORMATS


def pixels_digest(body: bytes) -> str:
    """Of a picture's decoded pixels, upright: the same in whatever file they lie. Raises Unfit."""
    picture = opened(body)
    if not picture.mode.startswith("I"):
        picture = picture.convert("RGBA")
    pixels = np.asarray(picture)
    head = f"{picture.size}{pixels.dtype}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


@dataclass(frozen=True)
class Look:
    """How a picture looks.

    64 bits, of which pictures that look the same share all but a few; and its grey (32, 32) uint8.
    """

    hash: int
    grey: np.ndarray


def look(body: bytes) -> Look | None:
    """None where it is no picture, or nothing is to be seen on it.

    The bits are the signs of the lowest 8 x 8 frequencies against their median (Zauner 2010,
    section 3.2.1, pHash).
    """
    from scipy.fft import dctn

    if not body.startswith(SIGNATURES):
        return None
    try:
        small = np.asarray(square(grey(opened(body)), 4 * HASH_SIDE))
    except UnfitPicture:
        return None
    if np.ptp(small) < 8:
        return None
    low = dctn(small.astype(np.float64), norm="ortho")[:HASH_SIDE, :HASH_SIDE].ravel()
    bits = low > np.median(low[1:])
    return Look(int.from_bytes(np.packbits(bits).tobytes()), small)


def png(pixels: np.ndarray) -> bytes:
    """Grey (H, W) or colour (H, W, 3) uint8 as PNG; equal pixels give equal bytes."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(
        out, format="PNG", optimize=False, compress_level=6
    )
    return out.getvalue()


def encoded(body: bytes) -> str:
    return base64.b64encode(body).decode("ascii")


def decoded(text: str) -> bytes:
    """The bytes of a base64 text; Unfit where it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnfitPicture("not base64") from error
