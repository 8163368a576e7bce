"""Serve: HTTP answers from the champion, by the package that was judged. See docs/serve.md."""

from pathlib import Path

from tasks import places


def nudge() -> Path:
    """A file that whoever moves an alias touches: servers on this machine look at the registry at once."""
    return places.state("serve", "nudge")


def nudged() -> None:
    path = nudge()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
