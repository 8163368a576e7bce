"""How a command ends: an exit code, and where it went wrong one line on stderr."""

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from tidemill.runtime.errors import Fault, Refused
from tidemill.runtime.escape import line
from tidemill.runtime.lifetimes import stopping

STOPPED = "stopped; what was finished is kept, and the same command resumes"
INTERRUPTED = 130


def guarded(work: Callable[[], object]) -> NoReturn:
    """Do it and exit, with one line on stderr where it did not end well.

    0 for every named end, 1 for a fault, 2 for a request that makes no sense.

    Outside its own main, typer gives an exit's code back as a value: 130 for a Ctrl-C.
    """
    import click
    from typer.exceptions import TyperException

    try:
        told = work()
        code = told if type(told) is int else 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    except Refused as error:
        code = fail(error, 2)
    except Fault as error:
        code = fail(error, 1)
    except (KeyboardInterrupt, typer.Abort, click.exceptions.Abort):
        stopping.leave()
        code = fail(STOPPED, INTERRUPTED)
    except (typer.Exit, click.exceptions.Exit) as error:
        code = error.exit_code
    except (TyperException, click.ClickException) as error:
        # Where a command was named without a subcommand, the help was printed and there is
        # nothing to add.
        code = 2 if type(error).__name__ == "NoArgsIsHelpError" else fail(_asked(error), 2)
    except Exception as error:
        from tidemill.runtime.process import explain

        code = fail(explain(error), 1)
    sys.exit(code)


def _asked(error: Any) -> str:
    """What was typed wrong, and where the right words stand."""
    words = error.format_message().strip().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{words} (see {context.command_path} --help)" if context else words


def fail(error: object, code: int) -> int:
    """Print the line; the code is given back."""
    if os.environ.get("TIDEMILL_DEBUG") and isinstance(error, BaseException):
        traceback.print_exception(error)
    words = line(error)
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\033[1;31merror:\033[0m {words}" if colour else f"error: {words}", file=sys.stderr)
    return code
