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
    samples = np.rint(np.tile(wave[:, None], channels) * 32_768).astype(np.int16)
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind)
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


REFUSED = {"DWVW_12", "DWVW_16", "DWVW_24"}  # libsndfile cannot seek in them, so they are no sounds


def subtypes() -> list[tuple[str, str]]:
    return [
        (kind, subtype)
        for kind in sounds.FORMATS
        for subtype in soundfile.available_subtypes(kind)
        if subtype not in REFUSED and soundfile.check_format(kind, subtype)
    ]


@pytest.mark.parametrize(("kind", "subtype"), subtypes())
def test_each_subtype_of_each_format_sounds_as_it_was_written(kind: str, subtype: str) -> None:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)
    out = io.BytesIO()
    try:
        soundfile.write(out, wave, 8_000, format=kind, subtype=subtype)
    except soundfile.LibsndfileError:
        pytest.skip("libsndfile does not write it")
    samples, rate = sounds.opened(out.getvalue())
    heard = samples[:, 0].astype(np.float64) / 32_768
    assert rate == 8_000 and abs(len(heard) - 8_000) <= 2_400
    assert abs(np.abs(heard[1_000:7_000]).max() - 0.5) < 0.08
    energy = np.abs(np.fft.rfft(heard[1_000:7_000])) ** 2
    assert int(energy.argmax()) == 330 and energy[325:336].sum() > 0.95 * energy.sum()


@pytest.mark.parametrize("peak", [1.5, 32_767.0])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_beyond_one_are_scaled_and_not_cut(subtype: str, peak: float) -> None:
    wave = peak * np.sin(2 * np.pi * 440 * np.arange(4_000) / 8_000)
    out = io.BytesIO()
    soundfile.write(out, wave, 8_000, format="WAV", subtype=subtype)
    samples, _ = sounds.opened(out.getvalue())
    assert np.abs(samples.astype(int)).max() >= 32_700
    assert np.corrcoef(samples[:, 0], wave)[0, 1] > 0.9999


def test_a_sound_with_a_sample_that_is_no_number_is_refused() -> None:
    out = io.BytesIO()
    wave = np.array([0.1, np.nan, 0.1] * 100)
    soundfile.write(out, wave, 8_000, format="WAV", subtype="FLOAT")
    with pytest.raises(sounds.UnfitSound, match="NaN or infinite"):
        sounds.opened(out.getvalue())


def test_the_same_samples_in_another_lossless_file_have_one_digest() -> None:
    assert sounds.samples_digest(tone(kind="WAV")) == sounds.samples_digest(tone(kind="FLAC"))
    assert sounds.samples_digest(tone()) != sounds.samples_digest(tone(hertz=441.0))


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
        except sounds.UnfitSound as refused:
            assert "\n" not in str(refused)
        else:
            assert 0 < len(samples) <= sounds.MOST_SECONDS * rate
