"""Serve: HTTP answers from the champion, by the package that was judged. See docs/serve.md."""

from pathlib import Path

from tidemill.engines.prefect.step import step
from tidemill.records.receipts import Watched
from tidemill.runtime import paths


@step("watch {application}")
def watching(application: str) -> Watched:
    """Compare what was served with what the champion was judged on."""
    from tidemill.runtime.process import answer

    return answer(f"watch {application}", "tasks.serve.watch", [application], Watched)


def nudge() -> Path:
    """A file that whoever moves an alias touches: servers here then look at once."""
    return paths.state("serve", "nudge")


def nudged() -> None:
    path = nudge()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
