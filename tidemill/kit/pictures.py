"""Pictures as bytes, opened safely: the same in cleaning, in training and in the server."""

import base64
import binascii
import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np

FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "WEBP",
)  # decoders that are asked; pillow knows forty more, each one more way in
MOST_PIXELS = 4_000_000
MOST_BYTES = 8_000_000


class Unfit(ValueError):
    """Bytes that are no picture we can use, with the reason."""


def opened(body: bytes, most_pixels: int = MOST_PIXELS) -> Any:
    """A PIL picture, decoded whole; its size is looked at before any pixel is. Raises Unfit."""
    from PIL import Image

    if len(body) > MOST_BYTES:
        raise Unfit(f"a picture of {len(body) / 1e6:.1f} MB, the limit is {MOST_BYTES / 1e6:.0f}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is the lower one
            picture = Image.open(io.BytesIO(body), formats=FORMATS)
            width, height = picture.size  # from the head; nothing is decoded yet
            if width * height > most_pixels:
                raise Unfit(
                    f"a picture of {width} x {height} pixels, the limit is {most_pixels:,} pixels"
                )
            picture.load()
    except Unfit:
        raise
    except Image.DecompressionBombError as error:  # pillow's own limit, hit before ours is asked
        raise Unfit(f"a picture of far more than the limit of {most_pixels:,} pixels") from error
    except (
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
    ) as error:
        raise Unfit(f"not a whole picture ({', '.join(FORMATS)})") from error
    return picture


def grey(picture: Any) -> Any:
    """Any mode as 8-bit grey: what is transparent is black, 16 bits lose their lower eight."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        pixels = np.asarray(picture, dtype=np.float64)
        return Image.fromarray(
            (pixels / 256 if pixels.max() > 255 else pixels).clip(0, 255).astype(np.uint8)
        )
    if picture.mode in ("RGBA", "LA", "PA", "P"):
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture)
    return picture.convert("L")


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
        raise Unfit("not base64") from error
