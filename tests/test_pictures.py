"""Pictures, series and time: cut safely, counted as copies by their bytes, split by the day."""

import gzip
import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from tasks.clean.selectors import Unreadable, cut
from tasks.split.digest import snapshot
from tasks.split.rules import place
from tests.support.splits import buckets, leaks
from tidemill import contract
from tidemill.engines.config.schema import Rule, SplitRule
from tidemill.kit import pictures
from tidemill.runtime.errors import Refused
from tidemill.text.normal import in_letters


def written(picture: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, format=kind)
    return out.getvalue()


def idx(values: np.ndarray) -> bytes:
    return (
        b"\0\0\x08"
        + bytes([values.ndim])
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.astype(np.uint8).tobytes()
    )


def bomb(width: int, height: int) -> bytes:
    """A PNG whose head promises a size that its few bytes do not hold."""
    body = bytearray(written(Image.new("1", (8, 8))))
    body[16:24] = struct.pack(">II", width, height)
    import zlib

    body[29:33] = struct.pack(">I", zlib.crc32(bytes(body[12:29])))
    return bytes(body)


DIGIT = written(Image.fromarray(np.arange(784, dtype=np.uint8).reshape(28, 28)))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"no picture at all", "not a whole picture"),
        (DIGIT[:60], "not a whole picture"),
        (bomb(5_000, 5_000), "not a whole picture"),
        (bomb(12_000, 9_000), "12000 x 9000 pixels, which is more than 256 MB hold"),
        (bomb(60_000, 60_000), "than 256 MB hold once it is decoded; save it smaller"),
        (written(Image.new("L", (1, 1))), "a picture of 1 x 1 pixels"),
        (b"\0" * (pictures.MOST_BYTES + 1), "the limit is 64"),
    ],
)
def test_a_bad_picture_is_refused_in_one_line_that_says_why(body: bytes, says: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        contract.application("images").Input(image=pictures.encoded(body))  # type: ignore[call-arg]
    message = refusal.value.errors()[0]["msg"]
    assert (
        (says in message or "characters" in message)
        and "\n" not in message
        and refusal.value.errors()[0]["loc"] == ("image",)
    )


def test_what_is_no_base64_is_refused() -> None:
    with pytest.raises(ValidationError, match="not base64"):
        contract.application("images").Input(image="???")  # type: ignore[call-arg]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "YCbCr"])
def test_every_mode_is_read_as_grey(mode: str) -> None:
    picture = Image.new(mode, (9, 7))
    grey = pictures.grey(picture)
    assert grey.mode == "L" and grey.size == (9, 7)
    bright = pictures.grey(Image.fromarray(np.full((4, 4), 65_535, dtype=np.uint16)))
    assert np.asarray(bright).min() == 255
    clear = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert np.asarray(pictures.grey(clear)).max() == 0


RAMP = np.add.outer(np.arange(48) * 2, np.arange(64) * 2).astype(
    np.uint8
)  # darkest at the upper left


def as_file(kind: str, mode: str, **how: Any) -> bytes:
    picture = Image.fromarray(RAMP).convert(mode)
    out = io.BytesIO()
    picture.save(out, format=kind, **how)
    return out.getvalue()


def deep(pixels: np.ndarray) -> bytes:
    return written(Image.fromarray(pixels.astype(np.uint16)))


SUBTYPES = {
    "PNG 8 bit": as_file("PNG", "L"),
    "PNG colour": as_file("PNG", "RGB"),
    "PNG alpha": as_file("PNG", "LA"),
    "PNG palette": as_file("PNG", "P"),
    "PNG 16 bit": deep(RAMP.astype(np.uint32) * 257),
    "JPEG grey": as_file("JPEG", "L", quality=95),
    "JPEG colour": as_file("JPEG", "RGB", quality=95, subsampling=2),
    "JPEG progressive": as_file("JPEG", "RGB", quality=95, progressive=True),
    "JPEG CMYK": as_file("JPEG", "CMYK", quality=95),
    "GIF": as_file("GIF", "L"),
    "BMP 8 bit": as_file("BMP", "L"),
    "BMP 24 bit": as_file("BMP", "RGB"),
    "BMP 32 bit": as_file("BMP", "RGBA"),
    "WEBP": as_file("WEBP", "RGB", quality=95),
    "WEBP lossless": as_file("WEBP", "RGB", lossless=True),
    "WEBP alpha": as_file("WEBP", "RGBA", lossless=True),
}


@pytest.mark.parametrize("name", SUBTYPES)
def test_each_subtype_of_each_format_shows_the_picture_that_was_saved(name: str) -> None:
    grey = np.asarray(pictures.grey(pictures.opened(SUBTYPES[name]))).astype(int)
    assert grey.shape == RAMP.shape
    assert np.abs(grey - RAMP).mean() < 4 and np.abs(grey - RAMP).max() < 24
    assert np.corrcoef(grey.ravel(), RAMP.ravel())[0, 1] > 0.99


def test_a_dark_picture_of_16_bits_stays_dark() -> None:
    assert np.asarray(pictures.grey(pictures.opened(deep(np.full((4, 4), 200))))).max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_as_its_camera_noted(kind: str, orientation: int) -> None:
    upright = Image.fromarray(RAMP)
    back = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    stored = upright
    for turn in back:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, format=kind, exif=exif, quality=95, lossless=True)
    read = pictures.grey(pictures.opened(out.getvalue()))
    assert read.size == upright.size
    assert np.abs(np.asarray(read).astype(int) - RAMP).mean() < 4


def test_what_is_transparent_is_black_in_colour_too() -> None:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 255, 255)).save(out, "PNG", transparency=(255, 255, 255))
    assert np.asarray(pictures.grey(pictures.opened(out.getvalue()))).max() == 0


PEAK = """
import resource, sys
from tidemill.kit import pictures
body = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
small = pictures.square(pictures.grey(pictures.opened(body)), 28)
print(small.size[0], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("kind", "size", "most_mb"),
    [("PNG", (4, 40_000), 60), ("PNG", (40_000, 4), 60), ("JPEG", (8_000, 6_000), 120)],
)
def test_a_large_picture_takes_the_memory_of_what_is_decoded(
    kind: str, size: tuple[int, int], most_mb: int, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    Image.new("L", size, 255).save(path, format=kind)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True
    )
    side, grown = map(int, done.stdout.split())
    assert side == 28 and grown < most_mb


def test_a_long_picture_is_scaled_before_it_is_set_on_black() -> None:
    small = np.asarray(pictures.square(Image.new("L", (56, 28), 200), 28))
    assert small.shape == (28, 28) and (small[7:21] == 200).all() and small[:7].max() == 0
    assert np.asarray(pictures.square(Image.new("L", (1, 9_000), 90), 28)).max() == 90


def test_the_same_pixels_in_another_file_have_one_digest_and_a_like_picture_a_near_hash() -> None:
    one, again = as_file("PNG", "L"), as_file("PNG", "RGB", compress_level=1)
    lossless = as_file("WEBP", "RGB", lossless=True)
    assert one != again
    assert len({pictures.pixels_digest(body) for body in (one, again, lossless)}) == 1
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 12), dtype=np.uint8))
    photo = noise.resize((240, 180), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    photo.save(out, "JPEG", quality=60)
    files = written(photo), out.getvalue(), written(photo.transpose(Image.Transpose.ROTATE_180))
    assert len(set(map(pictures.pixels_digest, files))) == 3
    hashes = [pictures.look(body).hash for body in files]
    assert (hashes[0] ^ hashes[1]).bit_count() <= 4 < (hashes[0] ^ hashes[2]).bit_count()


def test_a_picture_saved_anew_is_a_copy_and_another_is_none() -> None:
    random = np.random.default_rng(2)
    photos = [
        Image.fromarray(random.integers(0, 256, (9, 12), dtype=np.uint8)).resize((120, 90))
        for _ in range(6)
    ]
    lossy = io.BytesIO()
    photos[0].save(lossy, "JPEG", quality=70)
    again = io.BytesIO()
    photos[1].convert("RGB").save(again, "WEBP", lossless=True)
    payloads = [lossy.getvalue(), again.getvalue(), *map(written, photos)]
    rows = pd.DataFrame({"inputs": ['{"image": ""}'] * 8, "target": ['{"label": "x"}'] * 8})
    where = pd.Series(["train", "train", *["test"] * 6])
    assert leaks(rows.assign(payload=payloads), where, 0.8).tolist()[:2] == [
        "near duplicate of a test row",
        "exact duplicate of a test row",
    ]
    where = pd.Series(["test", "test", *["train"] * 6])
    reasons = leaks(rows.assign(payload=payloads), where, 0.8)
    assert reasons.notna().tolist() == [False, False, True, True, *[False] * 4]


def test_idx_files_give_pictures_with_the_labels_that_lie_beside_them() -> None:
    images, labels = np.arange(3 * 20, dtype=np.uint8).reshape(3, 4, 5), np.array([7, 0, 2])
    rule = Rule(
        kind="idx", name="thing", labels=("images-idx3", "labels-idx1"), original="(train|t10k)-"
    )
    pages = {
        "p#train-images-idx3.gz": gzip.compress(idx(images)),
        "p#train-labels-idx1.gz": gzip.compress(idx(labels)),
    }
    parts = list(cut(rule, "p#train-images-idx3.gz", pages["p#train-images-idx3.gz"], pages.get))
    assert [part.attributes["label"] for part in parts] == ["7", "0", "2"] and {
        part.original for part in parts
    } == {"train"}
    assert (np.asarray(pictures.opened(parts[2].payload or b"")) == images[2]).all()
    assert (
        list(cut(rule, "p#train-labels-idx1.gz", pages["p#train-labels-idx1.gz"], pages.get)) == []
    )
    with pytest.raises(Unreadable, match="has no label for each of 3"):
        list(cut(rule, "p#train-images-idx3.gz", pages["p#train-images-idx3.gz"], {}.get))
    with pytest.raises(Unreadable, match="has no label for each of 3"):
        list(
            cut(
                rule,
                "p#train-images-idx3.gz",
                pages["p#train-images-idx3.gz"],
                {"p#train-labels-idx1.gz": idx(labels[:2])}.get,
            )
        )


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("idx", b"\0\0\x0d\x01\0\0\0\x01\0", "not an IDX file of bytes"),
        ("idx", idx(np.zeros((2, 3, 4)))[:-1], "2 x 3 x 4 bytes that has 23"),
        ("idx", gzip.compress(b"x" * 100, mtime=0)[:-9], "not a whole gzip"),
        ("pixels", b"1,2,3,4\n", "row 1 has 4 values"),
        ("pixels", b"0,0,0,256,1\n", "outside 0 to 255"),
        ("pixels", b"0,0,0,nan,1\n", "outside 0 to 255"),
        ("picture", DIGIT[:60], "not a whole picture"),
        ("csv", b"a,b\n1\n", "line 2 has 1 values"),
        ("csv", b"a\n1\n", "no column g"),
    ],
)
def test_what_is_broken_is_dropped_with_the_reason(kind: str, body: bytes, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        list(
            cut(
                Rule(kind=kind, name="x", size=(2, 2), group="g" if b"a\n" in body else ""),
                "u",
                body,
            )
        )  # type: ignore[arg-type]


def test_a_picture_keeps_its_bytes_and_has_its_label_from_its_folder() -> None:
    [part] = cut(
        Rule(kind="picture", name="photo", label="([^/]+)/[^/]+$"), "files/cat/1.png", DIGIT
    )
    assert part.payload == DIGIT and part.attributes == {"label": "cat"}


def test_rows_of_a_table_become_one_series_for_each_name_in_their_order() -> None:
    parts = list(
        cut(
            Rule(kind="csv", name="series", group="who", columns=("day", "x")),
            "u",
            gzip.compress(b"who,x,day\nB,1,d1\nA,2,d1\nB,3,d2\n"),
        )
    )
    assert [(part.part, part.payload) for part in parts] == [
        ("A", b"day,x\nd1,2\n"),
        ("B", b"day,x\nd1,1\nd2,3\n"),
    ]


TIME = {
    "source": "s",
    "by": "time",
    "column": "unit",
    "valid": "2010-01-01",
    "test": "2011-01-01",
    "embargo": 31,
}


def test_rows_in_the_embargo_belong_to_no_split_and_say_so() -> None:
    days = pd.DataFrame(
        {
            "unit": [
                "2009-11-30",
                "2009-12-01",
                "2009-12-31",
                "2010-01-01",
                "2010-11-30",
                "2010-12-01",
                "2010-12-31",
                "2011-01-01",
                "2020-05-05",
            ]
        }
    )
    where = place(SplitRule.model_validate(TIME), days)
    before = "in the embargo before "
    assert where.tolist() == [
        "train",
        f"{before}valid",
        f"{before}valid",
        "valid",
        "valid",
        f"{before}test",
        f"{before}test",
        "test",
        "test",
    ]
    assert place(SplitRule.model_validate(TIME), days.iloc[[7]]).tolist() == ["test"], (
        "a row's split hangs on other rows"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"valid": "2012-01-01"}, "valid first"),
        ({"embargo": 365}, "leaves nothing"),
        ({"valid": 0.1}, "the days they begin"),
        ({"by": "hash", "valid": 0.1, "test": 0.1}, "embargo is for split by time"),
    ],
)
def test_a_split_by_time_that_makes_no_sense_is_refused(change: dict, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        SplitRule.model_validate({**TIME, **change})


def test_a_column_without_dates_is_refused_by_its_value() -> None:
    with pytest.raises(Refused, match="has 'tomorrow', which is no date"):
        place(SplitRule.model_validate(TIME), pd.DataFrame({"unit": ["2010-01-01", "tomorrow"]}))


def test_a_published_test_part_stays_one_and_valid_is_a_share_of_the_rest() -> None:
    rows = pd.DataFrame(
        {
            "original": ["t10k"] * 100 + ["train"] * 900,
            "doc_id": [f"d{number}" for number in range(1000)],
        }
    )
    where = place(
        SplitRule(source="s", by="values", column="original", valid=0.1, test=("t10k",)), rows
    )
    assert (
        (where[:100] == "test").all()
        and 60 < (where[100:] == "valid").sum() < 120
        and not (where[100:] == "test").any()
    )


def test_copies_of_a_payload_are_exact_ones_and_the_snapshot_counts_its_bytes() -> None:
    rows = pd.DataFrame(
        {
            "example_id": list("abc"),
            "split": ["train", "test", "train"],
            "inputs": ['{"image": "x"}'] * 3,
            "target": ['{"label": "1"}'] * 3,
            "slices": ["{}"] * 3,
            "payload": [b"one", b"one", b"two"],
        }
    )
    assert leaks(rows, rows["split"], 0.8).tolist() == ["exact duplicate of a test row", None, None]
    text = rows.drop(columns="payload")

    def named(rows: pd.DataFrame) -> str:
        return snapshot(buckets(rows))

    assert named(text) == named(text.assign(payload=None))
    other = rows.assign(payload=[b"one", b"one", b"ten"])
    assert len({named(text), named(rows), named(other)}) == 3
    assert len(in_letters(b"x")) == 24 and in_letters(b"x").isalpha()
