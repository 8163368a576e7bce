"""Sounds: opened within bounds, kept as one channel, and a bad one dropped with its reason."""

import io
import random

import numpy as np
import pytest
import soundfile

from tasks.clean import read
from tasks.clean.part import Unreadable
from tasks.clean.selectors import cut
from tidemill.engines.config.schema import Rule, Source
from tidemill.kit import sounds


def tone(
    seconds: float = 0.5,
    rate: int = 8_000,
    channels: int = 1,
    kind: str = "WAV",
    hertz: float = 440.0,
) -> bytes:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    out = io.BytesIO()
    soundfile.write(out, np.tile(wave[:, None], channels), rate, format=kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_a_sound_of_each_format_is_kept_as_one_channel(kind: str) -> None:
    [part] = cut(
        Rule(kind="audio", name="clip", label="([^/]+)/[^/]+$", language="/([a-z]{2})/"),
        f"files/de/yes/1.{kind.lower()}",
        tone(channels=2, kind=kind),
    )
    samples, rate = sounds.opened(part.payload or b"")
    assert (
        samples.shape[1] == 1 and rate == 8_000 and abs(len(samples) - 4_000) <= 2_400
    )  # MP3 and Ogg pad
    assert abs(np.abs(samples.astype(int)).max() - 16_384) < 2_500
    assert (part.media, part.language, part.text) == ("audio/flac", "de", "")
    assert part.attributes == {
        "label": "yes",
        "rate": "8000",
        "seconds": f"{len(samples) / rate:.3f}",
    }


def test_another_rate_keeps_the_pitch() -> None:
    [part] = cut(
        Rule(kind="audio", name="clip", rate=16_000), "a.wav", tone(1.0, rate=44_100, hertz=1_000)
    )
    samples, rate = sounds.opened(part.payload or b"")
    assert rate == 16_000 and len(samples) == 16_000
    assert int(np.abs(np.fft.rfft(samples[:, 0])).argmax()) == 1_000


def test_the_same_sound_gives_the_same_bytes() -> None:
    one, other = (
        next(iter(cut(Rule(kind="audio", name="clip", rate=16_000), "a.wav", tone()))).payload
        for _ in range(2)
    )
    assert one == other


def raw_head(frames: int, rate: int = 8_000) -> bytes:
    """A WAV whose head promises far more than there is."""
    body = bytearray(tone(0.1, rate))
    at = body.index(b"data") + 4
    body[at : at + 4] = (frames * 2).to_bytes(4, "little")
    return bytes(body)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"no sound at all", "not a whole sound"),
        (b"", "not a whole sound"),
        (tone()[:30], "not a whole sound"),
        (tone(0.0), "without a sample"),
        (tone(61), "more than 60 seconds"),
        (tone(0.1, rate=2_000), "2000 samples a second"),
        (tone(kind="AU"), "a sound in AU"),
        (b"\0" * (sounds.MOST_BYTES + 1), "the limit is 64"),
    ],
    ids=["text", "empty", "cut", "silent", "long", "slow", "au", "large"],
)
def test_a_bad_sound_is_dropped_with_its_reason(body: bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        list(cut(Rule(kind="audio", name="clip"), "a.wav", body))
    source = Source.model_validate(
        {
            "name": "clips",
            "kind": "files",
            "path": "x",
            "licence": "CC0-1.0",
            "selector": [{"kind": "audio", "name": "clip"}],
            "clean": {},
        }
    )
    [document] = read.documents(source, {"uri": "a.wav", "media": "audio/wav"}, body)
    assert says in document["unread"]


def test_a_head_that_promises_too_much_reads_what_is_there() -> None:
    samples, _ = sounds.opened(raw_head(400_000))
    assert len(samples) == 800


def test_a_thousand_damaged_sounds_are_sounds_or_refused() -> None:
    random.seed(1)
    whole = [tone(0.05, kind=kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF")]
    for number in range(1_000):
        body = bytearray(whole[number % 5])
        for _ in range(random.randint(1, 8)):
            body[random.randrange(min(len(body), 200))] = random.randrange(256)
        try:
            samples, rate = sounds.opened(
                bytes(body[: random.randint(1, len(body))] if number % 3 else body)
            )
        except sounds.Unfit as refused:
            assert "\n" not in str(refused)
        else:
            assert 0 < len(samples) <= sounds.MOST_SECONDS * rate
