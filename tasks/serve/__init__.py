"""Serve: HTTP answers from the champion, by the package that was judged. See docs/serve.md."""

from pathlib import Path

from tasks import places
from tasks.receipts import Watched
from tasks.step import step


@step("watch {application}")
def watching(application: str) -> Watched:
    """Compare what was served with what the champion was judged on."""
    from tasks.process import answer

    return answer(f"watch {application}", "tasks.serve.watch", [application], Watched)


def nudge() -> Path:
    """A file that whoever moves an alias touches: servers on this machine look at the registry at once."""
    return places.state("serve", "nudge")


def nudged() -> None:
    path = nudge()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
