"""python -m tidemill.cli.tour: a few nights, in a folder of their own (make tour).

The nights go over real releases of Django, whose translations `languages` learns from here; Plone's
are its test. One training is killed in the middle, and the last night brings a release that was
broken on purpose.
"""

import json
import os
import shutil
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tidemill.records.receipts import RunSummary
from tidemill.runtime import paths, process
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import sha256, write

COPIED = (
    "conf",
    "data/people",
    "data/carried",
    "tidemill",
    "flows",
    "tasks",
    "recipes",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "pyproject.toml",
)
LOCALES = (
    "ar",
    "cs",
    "da",
    "de",
    "el",
    "es",
    "fa",
    "fi",
    "fr",
    "hu",
    "it",
    "ja",
    "ko",
    "nl",
    "pl",
    "ru",
    "sv",
    "tr",
    "uk",
    "vi",
)
DECLARATIONS = (
    "arb",
    "ces",
    "dan",
    "deu_1996",
    "ell_monotonic",
    "spa",
    "pes_1",
    "fin",
    "fra",
    "hun",
    "ita",
    "jpn",
    "kor",
    "nld",
    "pol",
    "rus",
    "swe",
    "tur",
    "ukr",
    "vie",
)


@dataclass(frozen=True)
class Release:
    """One night's release of the package."""

    version: str
    file: str
    sha256: str


FIRST = Release(
    "5.2",
    "Django-5.2-py3-none-any.whl",
    "91ceed4e3a6db5aedced65e3c8f963118ea9ba753fc620831c77074e620e7d83",
)
NEXT = Release(
    "5.2.10",
    "django-5.2.10-py3-none-any.whl",
    "cf85067a64250c95d5f9067b056c5eaa80591929f7e16fbcd997746e40d6c45c",
)
SAME = Release(
    "5.2.19",
    "django-5.2.19-py3-none-any.whl",
    "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
)


KILLED = (
    "  the training was killed (-9) after its first checkpoint; the step is tried again and "
    "resumes from there"
)


@dataclass
class Tour:
    """The folder the nights happen in."""

    folder: Path

    def environment(self) -> dict[str, str]:
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "MLFLOW_", "OPTUNA_", "TIDEMILL_"))
        }
        return {**own, "PYTHONPATH": str(self.folder), "TIDEMILL_CACHE": str(paths.cache())}

    def command(self, *arguments: str) -> list[str]:
        return process.python("tidemill.cli", *arguments)

    def tidemill(self, *arguments: str) -> Any:
        """One command there, its answer as JSON. Raises where it ends with a fault or a refusal."""
        words = f"tidemill {' '.join(arguments)}"
        command = self.command(*arguments, "--json")
        return json.loads(process.ask(words, command, cwd=self.folder, env=self.environment()))

    def edit(self, name: str, **changed: Any) -> None:
        path = self.folder / "conf" / name
        body = yaml.safe_load(path.read_text())
        for key, value in changed.items():
            body[key] = (
                {**body[key], **value}
                if isinstance(value, dict) and isinstance(body.get(key), dict)
                else value
            )
        write(path, yaml.safe_dump(body, sort_keys=False))


def copied(project: Path, folder: Path) -> None:
    """A project's code and configuration in another folder, without its data and state."""
    for name in COPIED:
        source, target = project / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def make(folder: Path) -> Tour:
    """A project of its own, small enough for two cores.

    Twenty languages, one trial, a short training.
    """
    if folder.exists():
        subprocess.run(process.python("tidemill.cli", "down"), cwd=folder, capture_output=True)
        shutil.rmtree(folder)
    copied(paths.root(), folder)
    for path in (folder / "conf" / "recipe").glob("*.yaml"):
        if path.stem != "languages":
            path.unlink()
            shutil.rmtree(folder / "recipes" / path.stem, ignore_errors=True)
            (folder / "recipes" / f"{path.stem}.py").unlink(missing_ok=True)
    tour = Tour(folder)
    cut_sources(tour)
    cut_recipe(tour)
    return tour


def cut_sources(tour: Tour) -> None:
    """Twenty languages of each source."""
    mirror = yaml.safe_load((tour.folder / "conf/source/udhr.yaml").read_text())["mirror"]
    tour.edit(
        "source/udhr.yaml",
        mirror={
            **mirror,
            "members": "|".join(
                f"third_party/udhr/{name}"
                for name in ("index.xml", *(f"udhr_{code}.xml" for code in DECLARATIONS))
            ),
        },
    )
    tour.edit(
        "source/software.yaml",
        members="|".join(
            f"plone/app/locales/locales/{code}/LC_MESSAGES/plone*.po" for code in LOCALES
        ),
    )
    tour.edit(
        "source/django.yaml",
        members="|".join(f"django/**/locale/{code}/LC_MESSAGES/*.po" for code in LOCALES),
    )


def cut_recipe(tour: Tour) -> None:
    """One trial, a short training, and the release of the night as training data."""
    body = yaml.safe_load((tour.folder / "conf/recipe/languages.yaml").read_text())
    rules = {rule["source"]: rule for rule in body["split"]["rules"]}
    gates = [
        {**gate, "margin": 0.03}
        if gate["kind"] == "no_worse" and gate["against"] == "baseline"
        else gate
        for gate in body["gates"]
    ]
    tour.edit(
        "recipe/languages.yaml",
        sources=[{"name": "udhr"}, {"name": "django"}, {"name": "software", "role": "test"}],
        split={
            "rules": [
                rules["udhr"],
                {**rules["software"], "source": "django"},
                {"source": "software", "by": "test"},
            ]
        },
        model={"bits": 14, "steps": 300},
        trainer={"checkpoint_steps": 40},
        sweep={"trials": 1},
        score={"resamples": 1000},
        gates=gates,
    )


def broken(good: Release) -> Release:
    """A release whose locale folders went round by one place: German's strings say they are Greek.

    Made here, on purpose; put where downloads lie.
    """
    after = dict(zip(LOCALES, (*LOCALES[1:], LOCALES[0]), strict=True))
    source = paths.cache() / good.sha256[:2] / good.sha256 / good.file
    file = good.file.replace(good.version, f"{good.version}+broken")
    part = paths.state("tour-broken.whl")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            parts = info.filename.split("/")
            if "locale" in parts and (at := parts.index("locale") + 1) < len(parts):
                parts[at] = after.get(parts[at], parts[at])
            new.writestr(
                zipfile.ZipInfo("/".join(parts)), old.read(info)
            )  # no times: the same bytes each time
    digest = sha256(part)
    target = paths.cache() / digest[:2] / digest / file
    target.parent.mkdir(parents=True, exist_ok=True)
    part.replace(target)
    return Release(f"{good.version}+broken", file, digest)


def watched(tour: Tour, title: str, kill: bool) -> RunSummary:
    """A run of the tour's project, its steps shown while they work; with `kill`, killed once."""
    began = time.monotonic()
    run = subprocess.Popen(
        tour.command("run", "languages", "--json"),
        cwd=tour.folder,
        env=tour.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killed = False
    with console().status("starting") as status:
        while run.poll() is None:
            status.update(f"{newest(tour.folder)} ({time.monotonic() - began:.0f} s)")
            if kill and not killed and training_under_way(tour.folder):
                killed = kill_training(run.pid)
                if killed:
                    say(KILLED)
            time.sleep(0.05 if kill and not killed else 0.3)
    answer, errors = run.communicate()
    if run.returncode:
        raise Fault(f"{title}: {process.why(errors.splitlines())[0]}")
    if kill and not killed:
        raise Fault(
            "the training was over before it could be killed; give it more steps in "
            "tidemill/cli/tour.py"
        )
    return RunSummary.model_validate_json(answer)


def tell_end(end: RunSummary, wall_s: float) -> None:
    """How a night ended, and which steps took a second or more."""
    say(f"  [bold]{end.state}[/] in {wall_s:.0f} s: {end.because[:300]}")
    steps = [
        f"{name.replace(' languages', '')} {seconds:.0f} s"
        for name, seconds in end.seconds.items()
        if seconds >= 1
    ]
    say(f"  [dim]{', '.join(steps)}[/]")


def night(tour: Tour, title: str, release: Release, kill: bool = False) -> RunSummary:
    """One night over one release; with `kill`, its training is killed once.

    Says how it ended, and what it cost.
    """
    say(f"\n[bold]{title}[/]")
    package = yaml.safe_load((tour.folder / "conf/source/django.yaml").read_text())["package"]
    tour.edit(
        "source/django.yaml",
        package={
            **package,
            "version": release.version,
            "file": release.file,
            "sha256": release.sha256,
        },
    )
    began = time.monotonic()
    end = watched(tour, title, kill)
    tell_end(end, time.monotonic() - began)
    return end


def newest(folder: Path) -> str:
    """The step whose log was written last."""
    logs = sorted(
        (folder / ".tidemill/logs/steps").glob("*.log"), key=lambda path: path.stat().st_mtime
    )
    return logs[-1].stem.replace("-", " ") if logs else "starting"


def training_under_way(folder: Path) -> bool:
    """Whether a checkpoint of a training lies there."""
    return any(folder.glob(".tidemill/runs/*/checkpoints/*"))


def kill_training(pid: int) -> bool:
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "tasks.train" in child.cmdline():
                child.kill()
                return True
        except psutil.Error:
            continue
    return False


def console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def say(words: str) -> None:
    console().print(words)


def tour() -> None:
    """The nights, then what they left behind."""
    began = time.monotonic()
    there = make(paths.state("tour"))
    say(
        f"A project of its own in {there.folder.relative_to(paths.root())}: twenty languages, "
        "learned from declarations and Django's strings, tested on Plone's too."
    )
    with console().status("starting Prefect, MLflow and the runner"):
        where = there.tidemill("up", "--detach")
    say(f"Look on: Prefect {where['prefect']}  MLflow {where['mlflow']}")
    as_told = nights(there)
    say("\n[bold]What was live, and why[/] (tidemill history languages)")
    for entry in there.tidemill("history", "languages"):
        say(f"  {entry['at']}  version {entry['version']} by {entry['by']}: {entry['why'][:160]}")
    if not as_told:
        raise Fault("the tour did not end as told; see the nights above")
    say(
        f"\n{time.monotonic() - began:.0f} s. The servers stay up: Prefect {where['prefect']}  "
        f"MLflow {where['mlflow']}/?workflowType=machine_learning"
    )
    say(f"To stop them: cd {there.folder.relative_to(paths.root())} && tidemill down")


def nights(there: Tour) -> bool:
    """Four nights over four releases; whether they ended as they must."""
    first = night(
        there, f"Night 1: Django {FIRST.version}, and a training that is killed", FIRST, kill=True
    )
    with console().status("training version 1 again, undisturbed"):
        again = there.tidemill("verify", "languages@1") if first.state == "Promoted" else None
    if again:
        say(
            f"  trained again without a disturbance: [bold]{again['verdict']}[/], "
            f"{again['because']}"
        )
    night(there, f"Night 2: Django {NEXT.version}, where some strings changed", NEXT)
    night(there, f"Night 3: Django {SAME.version}, a release without a new string", SAME)
    last = night(
        there,
        f"Night 4: Django {SAME.version} with every language's folder given to its neighbour, "
        "broken on purpose",
        broken(SAME),
    )
    identical = again is not None and again["verdict"] == "identical"
    return first.state == "Promoted" and last.state == "Rejected" and identical


def main() -> None:
    from tidemill.cli.errors import guarded

    paths.settle()
    guarded(tour)


if __name__ == "__main__":
    main()
