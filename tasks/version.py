"""Which bytes: the one graph that DVC and Prefect both run, snapshots, and bringing one back.

The only door to DVC. Its command line is called in a child, since its Python API resolves stages
against the working directory; the remote's file system is the one thing taken from the API.

    python -m tasks.version            write dvc.yaml anew from conf/
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from recipes import code as application_code
from tasks import changes, config, places, process
from tasks.errors import Fault, Refused
from tasks.files import aside, digest, locked, sha256, write, write_json
from tasks.receipts import Snapshot, Stage

log = logging.getLogger(__name__)

OUTS = {
    "clean": ["documents.parquet", "dropped.parquet", "lineage.parquet", "report.json"],
    "select": ["documents.parquet", "dropped.parquet", "report.json"],
    "label": ["examples.parquet", "dropped.parquet", "issues.parquet", "report.json"],
    "split": ["train.parquet", "valid.parquet", "test.parquet", "dropped.parquet", "report.json"],
}
FOLDER = {"clean": "clean", "select": "select", "label": "labels", "split": "splits"}
SHARED = ["tasks/documents.py", "tasks/text.py"]


# The graph --------------------------------------------------------------------------------------


def graph() -> dict[str, Any]:
    """dvc.yaml as conf/ implies it: a stage per source and step, one per recipe and step.

    DVC wants `deps` as a list of strings, so a recipe with fewer sources than another fills its
    places with files that its stage depends on anyway.
    """
    sources, recipes = config.files("source"), config.files("recipe")
    uses = {name: [use.name for use in config.recipe(name).sources] for name in recipes}
    places_needed = max((len(names) for names in uses.values()), default=0)
    fill = [
        path.relative_to(places.root()).as_posix()
        for path in sorted((places.root() / "tasks/select").glob("*.py"))
    ]
    if places_needed - min(map(len, uses.values()), default=0) > len(fill):
        raise Refused(
            f"a recipe has {places_needed} sources and another {len(fill) + 1} fewer; merge some of its sources"
        )

    def documents(name: str) -> dict[str, str]:
        found = [f"data/clean/{source}/documents.parquet" for source in uses[name]]
        return {
            f"source{number}": path
            for number, path in enumerate([*found, *fill][:places_needed], 1)
        }

    def code(name: str) -> str:
        """Its own code where it lies here; all of recipes/ where it builds on another application, or comes from another package."""
        own = next(
            (
                path
                for path in (f"recipes/{name}", f"recipes/{name}.py")
                if (places.root() / path).exists()
            ),
            "recipes",
        )
        return own if len(application_code(name)) == 1 else "recipes"

    def stage(
        step: str,
        kind: str,
        deps: list[str],
        wanted: list[str],
        params: dict[str, list[str]] | None = None,
        /,
        **more: Any,
    ) -> dict[str, Any]:
        names = sources if kind == "source" else recipes
        it = "key" if more else "item"  # DVC's names for the member of a mapping and of a list
        return {
            "foreach": {name: {key: of(name) for key, of in more.items()} for name in names}
            if more
            else names,
            "do": {
                "cmd": f"python -m tasks.{step} ${{{it}}}",
                "deps": [dep.replace("KEY", f"${{{it}}}") for dep in deps],
                "params": [{f"conf/{kind}/${{{it}}}.yaml": wanted}, *([params] if params else [])],
                "outs": [f"data/{FOLDER[step]}/${{{it}}}/{out}" for out in OUTS[step]],
            },
        }

    return {
        "stages": {
            "collect": {
                "foreach": sources,
                "do": {
                    "cmd": "python -m tasks.collect ${item}",
                    "frozen": True,
                    "outs": [{"data/raw/${item}": {"persist": True}}],
                },
            },
            "clean": stage(
                "clean",
                "source",
                [
                    *SHARED,
                    "tasks/clean",
                    "tasks/charset.py",
                    "tasks/optout.py",
                    "tasks/collect/robots.py",
                    "tasks/collect/raw.py",
                    "recipes/pictures.py",
                    "recipes/sounds.py",
                    "data/raw/KEY",
                ],
                ["licence", "selector", "clean"],
                {"conf/config.yaml": ["optout"]},
            ),
            "select": stage(
                "select",
                "recipe",
                [
                    *SHARED,
                    "tasks/select",
                    "conf/quality",
                    *(f"${{item.from.source{n}}}" for n in range(1, places_needed + 1)),
                ],
                ["sources", "select"],
                **{"from": documents},
            ),
            "label": stage(
                "label",
                "recipe",
                [
                    "tasks/documents.py",
                    "tasks/label",
                    "recipes/base.py",
                    "recipes/pictures.py",
                    "${item.code}",
                    "data/people",
                    "data/select/KEY/documents.parquet",
                ],
                ["label"],
                code=code,
            ),
            "split": stage(
                "split",
                "recipe",
                [
                    *SHARED,
                    "tasks/split",
                    "tasks/select/bands.py",
                    "tasks/select/shingles.py",
                    "tasks/select/twins.py",
                    "data/labels/KEY/examples.parquet",
                ],
                ["split", "score"],
            ),
        }
    }


def graph_text() -> str:
    head = "# Made from conf/ by `python -m tasks.version`; a test says when it is stale. Do not edit.\n"
    return head + yaml.safe_dump(graph(), sort_keys=False, width=120)


def refresh() -> bool:
    """Write dvc.yaml where conf/ changed since; True where it did."""
    path = places.root() / "dvc.yaml"
    try:
        text = graph_text()
    except Refused as error:
        if not path.is_file():
            raise
        # Whoever runs has a configuration that holds; another's that does not must not stop it.
        log.warning("dvc.yaml stays as it was: %s", error)
        return False
    if path.is_file() and path.read_text() == text:
        return False
    write(path, text)
    return True


# DVC's command line -----------------------------------------------------------------------------


def dvc(*arguments: str, step: str | None = None, cwd: Path | None = None) -> str:
    """One DVC command. With `step`, its lines are that step's log; else its output is given back.

    Commands wait for each other: `--wait-for-lock` is a global flag (without it two of twelve fail).
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]
    if step:
        process.run(step, command)
        return ""
    variables = {
        **os.environ,
        **places.environment(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
    }
    done = subprocess.run(
        command, cwd=cwd or places.root(), env=variables, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr + done.stdout).splitlines()
        at = max(
            (place for place, line in enumerate(said) if line.startswith("ERROR")), default=None
        )
        words = (
            " ".join(said[at : at + 4]) if at is not None else done.stderr.strip()[-300:]
        )  # some of its errors go on in the next lines
        raise Fault(
            f"dvc {' '.join(arguments[:2])}: {' '.join(words.split()).removeprefix('ERROR: ')[:400]}"
        )
    return done.stdout


def prepare() -> list[str]:
    """Make this folder one that DVC can work in; gives what is lost where there is no git."""
    root = places.root()
    if not (root / ".dvc").is_dir():
        raise Fault(f"{root} has no .dvc folder; restore it from the repository")
    refresh()
    (root / "data" / "people").mkdir(
        parents=True, exist_ok=True
    )  # what label depends on; a copy of the code alone has no data/
    if in_git():
        return []
    local = root / ".dvc" / "config.local"
    wanted = "[core]\n    no_scm = true\n"
    if not local.is_file():
        write(local, wanted)
    return [
        "this is no git clone: snapshots are kept in the DVC remote, but get no tag in git's history"
    ]


def in_git() -> bool:
    return (places.root() / ".git").exists() and shutil.which("git") is not None


def lock() -> dict[str, Any]:
    path = places.root() / "dvc.lock"
    return (yaml.safe_load(path.read_text()) or {}).get("stages", {}) if path.is_file() else {}


def commit_raw(source: str, raw: str) -> bool:
    """Let DVC know a source's raw bytes, where it does not know these; True where it did not.

    `raw` is the manifest's digest. A mark remembers which entry of dvc.lock stands for it.
    """
    name = f"collect@{source}"
    mark = places.state("collect", f"{source}.json")
    manifest = sha256(places.data("raw", source) / "manifest.parquet")

    def state() -> dict[str, str]:
        return {"raw": raw, "manifest": manifest, "lock": digest(lock().get(name, {}))}

    if name in lock() and mark.is_file() and json.loads(mark.read_text()) == state():
        return False
    with locked(places.state("locks", f"raw-{source}")):
        dvc("commit", "--force", name)
        write_json(mark, state())
    return True


def due(stages: list[str]) -> dict[str, bool]:
    """Which of these stages DVC would run, each by itself, as things stand. One call for all."""
    found = json.loads(dvc("status", "--json", *stages) or "{}")
    return {stage: stage in found or stage not in lock() or _unread(stage) for stage in stages}


def _unread(stage: str) -> bool:
    step, _, name = stage.partition("@")
    return step == "clean" and places.unread(name).is_file()


def stage(step: str, name: str, run: bool) -> Stage:
    """Run one data stage, where DVC says that it must, and give its receipt."""
    label = f"{step} {name}"
    target = f"{step}@{name}"
    before = digest(lock().get(target, {}))
    if run:
        try:
            dvc(
                "repro",
                "--single-item",
                *(["--force"] if _unread(target) else []),
                target,
                step=label,
            )
        except Fault as fault:
            raise Fault(_own_words(label, fault), heals=fault.heals) from fault
    folder = places.data(FOLDER[step], name)
    try:
        report = json.loads((folder / "report.json").read_text())
    except FileNotFoundError as error:
        raise Fault(
            f"{label} left no data/{FOLDER[step]}/{name}/report.json; run dvc repro {target}"
        ) from error
    return Stage(
        stage=step,
        name=name,
        ran=run and before != digest(lock().get(target, {})),
        rows=report["rows"],
        dropped=report["dropped"],
        counts=report["counts"],
    )


def _own_words(label: str, fault: Fault) -> str:
    """What the stage said, rather than DVC's note that it failed."""
    text = str(fault)
    return (
        text
        if not text.startswith("failed to reproduce")
        else f"{label} failed; see .tidemill/logs/steps"
    )


# Snapshots --------------------------------------------------------------------------------------


def snapshot(recipe: str) -> Snapshot:
    """Push a recipe's data, believe it only when the remote has all of it, and name it."""
    report = json.loads((places.data("splits", recipe) / "report.json").read_text())
    name = report["snapshot"]
    mark = places.state("snapshots", recipe, f"{name[:16]}.json")
    current = Snapshot.load(mark)
    if current and current.digest == name and current.pushed and _same_lock(recipe, name):
        return current.model_copy(
            update={"changed": dict.fromkeys(("added", "changed", "gone"), 0), "by": []}
        )
    with locked(places.state("locks", "snapshot")):
        dvc("push", "--with-deps", f"split@{recipe}")
        missing = [
            line
            for line in dvc("status", "--cloud", "--with-deps", f"split@{recipe}").splitlines()
            if "new:" in line or "missing:" in line
        ]
        if missing:
            raise Fault(
                f"{len(missing)} files of {recipe} are not in the DVC remote after a push; check the remote and run again",
                heals=True,
            )
        by = _changed(recipe, name)
        body = {
            "recipe": recipe,
            "digest": name,
            "rows": report["counts"],
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "changed": by,
            "dvc.yaml": (places.root() / "dvc.yaml").read_text(),
            "dvc.lock": (places.root() / "dvc.lock").read_text(),
        }
        notes = []
        tag = _tag(recipe) if in_git() else None
        if tag is None:
            notes.append("no git: the snapshot has no tag")
        names = [f"{recipe}-{name[:16]}", *([tag] if tag else [])]
        for each in names:
            _put(f"snapshots/{each}.json", json.dumps(body, indent=1))
        receipt = Snapshot(
            recipe=recipe,
            digest=name,
            rows=report["counts"],
            names=names,
            pushed=True,
            changed=changes.totals(by) if by is not None else {},
            by=by or [],
            notes=notes,
        )
        write_json(places.state("snapshots", recipe, f"{name[:16]}.lock.json"), stages_of(recipe))
        receipt.save(mark)
        write(places.state("snapshots", recipe, "latest"), name)
    return receipt


def _same_lock(recipe: str, name: str) -> bool:
    path = places.state("snapshots", recipe, f"{name[:16]}.lock.json")
    return path.is_file() and json.loads(path.read_text()) == json.loads(
        json.dumps(stages_of(recipe))
    )


def stages_of(recipe: str) -> dict[str, Any]:
    """The entries of dvc.lock that a recipe's splits come from."""
    sources = [use.name for use in config.recipe(recipe).sources]
    wanted = {f"{step}@{source}" for step in ("collect", "clean") for source in sources} | {
        f"{step}@{recipe}" for step in ("select", "label", "split")
    }
    return {name: entry for name, entry in lock().items() if name in wanted}


def _changed(recipe: str, name: str) -> list[dict[str, Any]] | None:
    """What changed since the last snapshot of this recipe, by source and language; None where this is the first."""
    import pandas as pd

    kept = places.state("snapshots", recipe, "rows.parquet")
    now = changes.rows(places.data("splits", recipe))
    found = changes.between(pd.read_parquet(kept), now) if kept.is_file() else None
    with aside(kept) as part:
        now.to_parquet(part, index=False)
    return found


def _tag(recipe: str) -> str:
    """Tag a commit that holds dvc.lock and dvc.yaml, by way of an index of its own.

    HEAD, the index and the work tree stay as they are. A second snapshot of a day gets a number.
    """
    root = places.root()

    def git(*arguments: str, **extra: str) -> str:
        env = {
            **os.environ,
            "GIT_AUTHOR_NAME": "tidemill",
            "GIT_AUTHOR_EMAIL": "tidemill@localhost",
            "GIT_COMMITTER_NAME": "tidemill",
            "GIT_COMMITTER_EMAIL": "tidemill@localhost",
            **extra,
        }
        done = subprocess.run(
            ["git", *arguments], cwd=root, env=env, capture_output=True, text=True
        )
        if done.returncode:
            raise Fault(f"git {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()

    head = subprocess.run(
        ["git", "rev-parse", "--verify", "-q", "HEAD"], cwd=root, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        if head:
            git("read-tree", head, **index)
        git("add", "--force", "dvc.yaml", "dvc.lock", "conf", **index)
        tree = git("write-tree", **index)
        day = f"data/{recipe}/{datetime.now():%Y-%m-%d}"
        number = 1
        while True:
            tag = day if number == 1 else f"{day}.{number}"
            there = subprocess.run(
                ["git", "rev-parse", "-q", "--verify", f"refs/tags/{tag}^{{tree}}"],
                cwd=root,
                capture_output=True,
                text=True,
            ).stdout.strip()
            if there == tree:
                return tag
            if not there:
                break
            number += 1
        commit = git(
            "commit-tree",
            tree,
            *(["-p", head] if head else []),
            "-m",
            f"Data of {recipe}, {datetime.now():%Y-%m-%d}",
            **index,
        )
        git("update-ref", f"refs/tags/{tag}", commit)
    return tag


# The remote -------------------------------------------------------------------------------------


def _remote() -> tuple[Any, str]:
    from dvc.repo import Repo

    with Repo(str(places.root())) as repo:
        odb = repo.cloud.get_remote_odb()
        return odb.fs, str(odb.path).split("/files/md5")[0]


def _put(name: str, body: str | bytes) -> None:
    fs, base = _remote()
    path = fs.join(base, *name.split("/"))
    fs.makedirs(fs.parent(path), exist_ok=True)
    part = path + ".part"
    with fs.open(part, "wb") as file:
        file.write(body.encode() if isinstance(body, str) else body)
    fs.move(part, path)


def spare(days: float, really: bool) -> tuple[int, float]:
    """Copies in DVC's cache, older than `days`, that today's data does not use and the remote has: how many, and MB; removed where it is meant."""
    before = time.time() - days * 86_400
    cache = places.root() / ".dvc" / "cache"
    said = dvc("gc", "--workspace", "--force", "--dry")
    unused = [
        Path(line.removeprefix("Removing "))
        for line in said.splitlines()
        if line.startswith("Removing ")
    ]
    aged = [
        path
        for path in unused
        if path.is_file() and path.is_relative_to(cache) and path.stat().st_mtime < before
    ]
    if not aged:
        return 0, 0.0
    fs, base = _remote()
    found = [path for path in aged if fs.exists(fs.join(base, *path.relative_to(cache).parts))]
    size = sum(path.stat().st_size for path in found) / 1e6
    for path in found if really else ():
        path.unlink()
    return len(found), size


def restore(name: str, folder: Path, remote: str | None = None) -> dict[str, Any]:
    """Bring a snapshot's splits back into an empty folder, from the DVC remote by its name alone.

    `name` is RECIPE-DIGEST16 or a tag; `remote` a folder or URL, by default this project's own.
    Each file's digest is checked against the lock that was pushed with it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(
            f"{folder} is {'not empty' if folder.is_dir() else 'a file'}; name an empty or a new folder"
        )
    body, url = _named(name, remote)
    with _pulled(body, url, [f"split@{body['recipe']}"]) as data:
        folder.mkdir(parents=True, exist_ok=True)
        for found in sorted((data / "splits" / body["recipe"]).iterdir()):
            shutil.copyfile(found, folder / found.name)
    if json.loads((folder / "report.json").read_text())["snapshot"] != body["digest"]:
        raise Fault(f"what came back for {name} is another snapshot; the remote is damaged")
    return body


def snapshots(recipe: str = "", last: int = 0, remote: str | None = None) -> list[dict[str, Any]]:
    """The snapshots that the remote has, the newest first: recipe, digest, at, rows, names, and what changed since the one before."""
    fs, there, _ = _kept(remote)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in fs.find(there) if fs.exists(there) else []:
        name = path.split("snapshots/", 1)[1].removesuffix(".json")
        if not path.endswith(".json") or (
            recipe and not name.startswith((f"{recipe}-", f"data/{recipe}/"))
        ):
            continue
        try:
            with fs.open(path, "r") as file:
                body = json.loads(file.read())
            body["recipe"], body["digest"], body["at"], body["rows"]
        except (ValueError, KeyError, TypeError):
            log.warning(
                "snapshot %s cannot be read in the remote and is left out; push it again, or remove %s",
                name,
                path,
            )
            continue
        one = found.setdefault(
            (body["recipe"], body["digest"]),
            {key: body.get(key) for key in ("recipe", "digest", "at", "rows", "changed")}
            | {"names": []},
        )
        one["names"] = sorted([*one["names"], name])
    ordered = sorted(found.values(), key=lambda one: one["at"], reverse=True)
    return ordered[:last] if last else ordered


def compared(old: str, new: str, remote: str | None = None) -> dict[str, Any]:
    """What is in one snapshot and not in the other, by source and language."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = [
            restore(name, Path(folder) / place, remote)
            for name, place in ((old, "old"), (new, "new"))
        ]
        if bodies[0]["recipe"] != bodies[1]["recipe"]:
            raise Refused(
                f"{old} is of {bodies[0]['recipe']} and {new} of {bodies[1]['recipe']}; compare two of one recipe"
            )
        by = changes.between(*(changes.rows(Path(folder) / place) for place in ("old", "new")))
    return {
        "recipe": bodies[0]["recipe"],
        "old": bodies[0]["digest"],
        "new": bodies[1]["digest"],
        "rows": [body["rows"] for body in bodies],
        "changed": changes.totals(by),
        "by": by,
    }


def keep_card(names: list[str], folder: Path) -> None:
    """Put a snapshot's card beside it in the remote, under each of its names."""
    for name in names:
        for path in sorted(folder.iterdir()):
            _put(f"cards/{name}/{path.name}", path.read_bytes())


def bring(name: str, folder: Path) -> None:
    """Bring a snapshot's splits and its sources' documents with their lineage: splits/ and clean/SOURCE/ in `folder`."""
    import pandas as pd

    body, url = _named(name, None)
    with _pulled(body, url, [f"split@{body['recipe']}"]) as data:
        shutil.copytree(data / "splits" / body["recipe"], folder / "splits")
    sources = sorted(
        {
            source
            for path in (folder / "splits").glob("*.parquet")
            if path.stem != "dropped"
            for source in pd.read_parquet(path, columns=["source"])["source"]
        }
    )
    with _pulled(body, url, [f"clean@{source}" for source in sources]) as data:
        shutil.copytree(data / "clean", folder / "clean")


def _named(name: str, remote: str | None) -> tuple[dict[str, Any], str]:
    """What the remote keeps under a snapshot's name, and the remote's address."""
    fs, there, url = _kept(remote)
    path = f"{there}/{name}.json"
    if not fs.exists(path):
        names = (
            sorted(p.split("snapshots/", 1)[1].removesuffix(".json") for p in fs.find(there))
            if fs.exists(there)
            else []
        )
        raise Refused(
            f"no snapshot '{name}' in the remote; it has {', '.join(names[-10:]) or 'none'}"
        )
    with fs.open(path, "r") as file:
        return json.loads(file.read()), url


def _kept(remote: str | None) -> tuple[Any, str, str]:
    """The file system and the folder of the snapshots' names, and the remote's address."""
    if remote:
        from fsspec.core import url_to_fs

        try:
            fs, base = url_to_fs(remote)
        except (ImportError, ValueError) as error:
            raise Refused(
                f"remote {remote}: {' '.join(str(error).split())}; install what it needs, or name another"
            ) from error
        if not fs.exists(base):
            raise Refused(
                f"remote {remote} does not exist; name the folder or address of a DVC remote"
            )
        return fs, f"{base}/snapshots", remote if "://" in remote else str(Path(remote).resolve())
    fs, base = _remote()
    return fs, fs.join(base, "snapshots"), base


@contextmanager
def _pulled(body: dict[str, Any], url: str, targets: list[str]) -> Iterator[Path]:
    """Stages of a snapshot, pulled into a temporary project; its data folder."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / ".dvc").mkdir()
        (work / ".dvc" / "config").write_text(
            f"[core]\n    no_scm = true\n    remote = it\n    analytics = false\n['remote \"it\"']\n    url = {url}\n"
        )
        (work / "dvc.yaml").write_text(body["dvc.yaml"])
        (work / "dvc.lock").write_text(body["dvc.lock"])
        dvc("pull", *targets, cwd=work)
        yield work / "data"


if __name__ == "__main__":
    places.settle()
    print("dvc.yaml written" if refresh() else "dvc.yaml is up to date")
