"""Become a COMMAND that ends when its parent does.

    python -I -S tidemill/runtime/lifetimes/bound.py COMMAND ...

The kernel keeps the signal that was asked for across exec(2), so nothing of this program stays in
memory.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # of kernel.py, which an isolated interpreter cannot import

if __name__ == "__main__":
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        sys.exit(1)
    os.execvp(sys.argv[1], sys.argv[1:])
