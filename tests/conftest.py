"""What several tests share: clones of this project with small slices of its real sources."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.made_once import made_once
from tests.support.making import tiny
from tidemill import contract
from tidemill.cli.tour import copied
from tidemill.runtime import paths

if TYPE_CHECKING:
    from tests.support.serving import Project

paths.settle()
HERE = Path(__file__).resolve().parent.parent
SMALL = {
    "udhr": lambda body: body["mirror"].update(
        members="|".join(
            f"third_party/udhr/{name}"
            for name in (
                "index.xml",
                "udhr_deu_1996.xml",
                "udhr_eng.xml",
                "udhr_fra.xml",
                "udhr_nld.xml",
                "udhr_rus.xml",
                "udhr_jpn.xml",
                "udhr_ell.xml",
                "udhr_swe.xml",
            )
        )
    ),
    "software": lambda body: body.update(
        members="|".join(
            f"plone/app/locales/locales/{name}/LC_MESSAGES/plone*.po" for name in ("de", "nl", "sv")
        )
    ),
    "django": lambda body: body.update(
        members="|".join(
            f"django/conf/locale/{name}/LC_MESSAGES/*.po"
            f"|django/contrib/a*/locale/{name}/LC_MESSAGES/*.po"
            for name in ("de", "fr", "nl", "ru")
        )
    ),
}


# The sentences of product reviews alone.
SMALL["vader"] = lambda body: body.update(
    members=body["members"].replace("*_GroundTruth", "amazonReviewSnippets_GroundTruth")
)

LONGEST = (
    "test_retrain",  # needs `lived`, and the next one `project`: each worker makes one of them
    "test_export",
    "test_operate",
    "test_serve",
    "test_recipes",
    "test_stages",
    "test_crawl_odd",
    "test_train",
    "test_crawl",
    "test_sweep",
    "test_interrupted",
    "test_crawl_kill",
    "test_select",
    "test_new",
    "test_register",
    "test_processes",
    "test_ledger",
    "test_sources",
    "test_browser",
    "test_clean",
)
AUDIT = """
import sys

def note(event, arguments):
    if event == "tidemill.config.recipe":
        with open({path!r}, "a") as file:
            file.write(sys.argv[0] + chr(10))

sys.addaudithook(note)
"""
"""Python runs this as it starts: each process notes when it resolves a recipe's configuration."""
CANARY = "canary-7f3a91c2-must-not-be-kept"


class Clone:
    """A clone in a folder of its own, and its command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PREFECT_", "MLFLOW_", "OPTUNA_", "TIDEMILL_", "DVC_"))
            },
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            # A secret as a source's login would be: it must be found nowhere.
            "A_SITES_TOKEN": CANARY,
            "TIDEMILL_CACHE": str(HERE / ".tidemill" / "cache"),
        }

    def run(
        self, *arguments: str, timeout: float = 300, **env: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def tidemill(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run("tidemill.cli", *arguments, **more)

    def edit(self, name: str, change) -> None:
        path = self.folder / "conf" / name
        body = yaml.safe_load(path.read_text())
        change(body)
        path.write_text(yaml.safe_dump(body, sort_keys=False))


def make_clone(folder: Path, git: bool = True) -> Clone:
    copied(HERE, folder)
    clone = Clone(folder)
    for name, change in SMALL.items():
        clone.edit(f"source/{name}.yaml", change)

    for path in sorted(
        (folder / "conf" / "source").glob("*.yaml")
    ):  # a person's own folder may be named from the project's
        if (body := yaml.safe_load(path.read_text())).get("path"):
            clone.edit(
                f"source/{path.name}", lambda own, at=body["path"]: own.update(path=str(HERE / at))
            )

    for name in contract.names():
        if (folder / "conf" / "recipe" / f"{name}.yaml").is_file():
            clone.edit(f"recipe/{name}.yaml", tiny(name).small)
    if git:
        for command in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "clone"],
        ):
            subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return clone


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in which most time goes come first.

    So two workers (a file to each) end at about the same time. By file: xdist 3.8 groups tests by a
    name that pytest 9.2 no longer lets it set.
    """
    items.sort(
        key=lambda item: next(
            (place for place, name in enumerate(LONGEST) if item.path.stem == name), len(LONGEST)
        )
    )


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A clone that has run nothing yet."""
    return make_clone(tmp_path / "clone")


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has promoted one model. Tests that change it put it back or use `clone`."""

    def live(folder: Path) -> None:
        clone, noted = make_clone(folder / "clone"), folder / "resolved.txt"
        hook = clone.folder / "sitecustomize.py"
        hook.write_text(AUDIT.format(path=str(noted)))
        (clone.folder / ".git" / "info" / "exclude").write_text("sitecustomize.py\n")
        done = clone.tidemill("run", "--json", timeout=900)
        assert done.returncode == 0, done.stderr
        hook.unlink()
        (folder / "first.json").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "lived", live)
    found = Clone(folder / "clone")
    found.first = (folder / "first.json").read_text()  # type: ignore[attr-defined]
    resolved = (folder / "resolved.txt").read_text().splitlines()
    found.resolved = resolved  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> "Project":
    """A clone with two small versions of each application in its registry.

    Tests that move an alias put it back.
    """
    from tests.support.serving import Project, made

    def served(folder: Path) -> None:
        made(folder / "clone", *contract.names())

    return Project(Clone(made_once(tmp_path_factory, "served", served) / "clone"))
