"""A child that reads records for tasks/clean/__main__.py.

It is asked over its stdin and answers on its stdout.
"""

import os
import sys

from tasks.clean import pool, read
from tasks.clean.cache import packed, unpacked
from tasks.clean.rows import Content
from tidemill.engines.config.schema import Source


def work() -> None:
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not be taken for an answer
    first = pool.receive(stdin)
    if first is None:
        return
    source = Source.model_validate_json(first[0]["settings"])
    while (asked := pool.receive(stdin)) is not None:
        head, body = asked
        row, marks = head["row"], b""
        answer: Content
        if "cut" in head:
            answer = {"documents": read.of_page(source, row, unpacked(body), head["cut"])}
        elif source.pages:
            answer, marks = read.pages(source, row, body)
        else:
            beside = {name: body[start:end] for name, (start, end) in head["beside"].items()}
            answer = {"documents": read.documents(source, row, body[: head["size"]], beside.get)}
        pool.send(stdout, {"marks": len(marks)}, marks + packed(answer))


if __name__ == "__main__":
    sys.setrecursionlimit(5_000)
    work()
