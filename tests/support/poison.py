"""A child for the test of the pool: it does as it is told, also what no child should."""

import os
import signal
import sys
import time

from tasks.clean import pool


def work() -> None:
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    pool.receive(stdin)
    while (asked := pool.receive(stdin)) is not None:
        word = asked[1].decode()
        if word == "hang":
            time.sleep(60)
        if word == "work":
            until = time.process_time() + 0.8
            while time.process_time() < until:
                pass
        if word == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if word == "leave":
            sys.exit(3)
        pool.send(stdout, {"said": word}, word.encode())


if __name__ == "__main__":
    work()
