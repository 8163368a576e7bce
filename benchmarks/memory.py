"""What a training of a causal model takes of memory and time, by what is kept for its loss.

    python -m benchmarks.memory [--short] [--json]

Each training is a process of its own on one core; memory is its peak above what it had before. A
small network with vocabularies as large as pretrained models have: all logits of a step at once
(the peer), and those of some positions at a time.
"""

import argparse
from collections.abc import Iterator
from typing import Any

from benchmarks.rows import Row, show
from tests.support.peak import peak

VOCABULARIES = (32_000, 128_000)
SMALL: dict[str, Any] = {
    "layers": 2,
    "heads": 2,
    "width": 64,
    "context": 256,
    "batch": 8,
    "steps": 2,
    "samples": 0,
}
ALL = 10**12  # logits


def of_vocabulary(fields: dict[str, Any], vocabulary: int) -> Iterator[Row]:
    model = {**fields, "vocabulary": vocabulary}
    whole, chunked = peak(model, ALL), peak(model)
    name = f"a loss over {vocabulary:,} tokens in chunks, beside all logits at once"
    yield Row(f"{name}: MB", chunked.peak_mb, whole.peak_mb, "ratio <= 0.5")
    yield Row(f"{name}: seconds", chunked.seconds, whole.seconds, "ratio <= 1.1")


def measured(short: bool) -> Iterator[Row]:
    if short:
        yield from of_vocabulary({**SMALL, "batch": 4, "steps": 1}, VOCABULARIES[0])
        return
    for vocabulary in VOCABULARIES:
        yield from of_vocabulary(SMALL, vocabulary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="one vocabulary, one step")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    show(measured(given.short), given.json)


if __name__ == "__main__":
    main()
