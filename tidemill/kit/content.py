"""What a payload shows or sounds like, whatever file it lies in: by this copies are sought."""

from tidemill.kit import pictures, sounds
from tidemill.text import normal

SOUNDS = (b"RIFF", b"fLaC", b"OggS", b"FORM", b"ID3", b"\xff\xfb", b"\xff\xf3")


def digest(text: str, payload: bytes | None) -> str:
    """The digest of a document.

    It is that of its text, or of a picture's pixels, a sound's samples, another payload's bytes.
    """
    return normal.digest(text if payload is None else of_payload(payload))


def of_payload(payload: bytes) -> str:
    """24 letters that payloads of the same content share: too short to be nearly like another's."""
    try:
        if payload[:4] == b"RIFF" and payload[8:12] == b"WEBP":
            return normal.hexadecimal_in_letters(pictures.pixels_digest(payload))
        if payload.startswith(SOUNDS):
            return normal.hexadecimal_in_letters(sounds.samples_digest(payload))
        if payload.startswith(pictures.SIGNATURES):
            return normal.hexadecimal_in_letters(pictures.pixels_digest(payload))
    except (pictures.UnfitPicture, sounds.UnfitSound):
        pass  # what cannot be read is known by its bytes
    return normal.in_letters(payload)
