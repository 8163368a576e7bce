"""The data half of an application alone."""

from pathlib import Path

import yaml

from tests.conftest import Clone


def halved(clone: Clone, name: str) -> Path:
    """The splits of an application by its data half alone, without DVC."""
    for source in [
        use["name"]
        for use in yaml.safe_load((clone.folder / f"conf/recipe/{name}.yaml").read_text())[
            "sources"
        ]
    ]:
        for step in ("collect", "clean"):
            done = clone.run(f"tasks.{step}", source)
            assert done.returncode == 0, done.stderr[-2000:]
    for step in ("select", "label", "split"):
        done = clone.run(f"tasks.{step}", name)
        assert done.returncode == 0, done.stderr[-2000:]
    return clone.folder / "data" / "splits" / name
