"""How cost grows where a source could make it grow with the square: processor seconds at 1x, 4x and
16x.

    python -m benchmarks.clean_slopes [copies|pii|nesting ...] [--json] [--short]

The slope is the exponent of cost by size between 4x and 16x, where what a start costs is small: 1
is in proportion, 2 the square. `--short` takes a tenth of the sizes, to see that it runs.
"""

import math
import random
import sys
import time
from collections.abc import Callable

from benchmarks.rows import Row, show
from tasks.clean import page, pii
from tidemill.text import duplicates

TIMES = (1, 4, 16)
GOAL = "<= 1.25"  # sorting and growing tables cost a little more than in proportion


def template_pages(count: int, shared: float = 0.77, words: int = 300) -> list[str]:
    """Pages that have a share of their words in a row: .77 is a Jaccard similarity of .63."""
    drawn = random.Random(3)
    template = [f"t{drawn.randrange(10**6)}" for _ in range(int(words * shared))]
    own = words - len(template)
    return [
        " ".join([*template, *(f"w{drawn.randrange(10**6)}" for _ in range(own))])
        for _ in range(count)
    ]


def copies(size: int) -> Callable[[], object]:
    pages = template_pages(size)
    return lambda: duplicates.copies(pages, ["g"] * size, 0.8)


def findings(size: int) -> Callable[[], object]:
    block = " ".join(f"name{number}@mill{number}.example" for number in range(size))
    return lambda: pii.marked(block)


def nesting(size: int) -> Callable[[], object]:
    body = f"<body><p>{'<b>word ' * size}{'</b>' * size}</p></body>".encode()
    return lambda: page.read(body, "utf-8")


KINDS = {"copies": (copies, 500), "pii": (findings, 4_000), "nesting": (nesting, 400)}


def measured(name: str, short: bool) -> Row:
    make, size = KINDS[name]
    seconds = []
    for times in TIMES:
        work = make(max(1, size // (10 if short else 1)) * times)
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    slope = math.log(seconds[2] / seconds[1]) / math.log(TIMES[2] / TIMES[1])
    more = {"seconds": [round(value, 3) for value in seconds]}
    return Row(f"{name}: slope of processor seconds by size", slope, goal=GOAL, more=more)


def main(arguments: list[str]) -> None:
    names = [name for name in KINDS if name in arguments] or list(KINDS)
    short = "--short" in arguments
    show((measured(name, short) for name in names), "--json" in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
