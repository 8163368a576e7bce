"""An application of a person's own, from a folder to a verdict.

Nothing is left behind where it cannot be made.
"""

import hashlib
import json
import random
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image, ImageDraw

from tasks.clean.selectors import cut
from tests.conftest import HERE, Clone, make_clone
from tidemill import contract
from tidemill.cli.new.survey import survey
from tidemill.cli.new.write import module, recipe
from tidemill.engines.config.schema import Rule
from tidemill.runtime.errors import Refused

CLASSES = ("circle", "cross", "square")


def drawn(folder: Path, each: int = 40) -> Path:
    """Circles, crosses and squares of several sizes and places, one folder for each."""
    chance = random.Random(1)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            picture = Image.new("L", (32, 32))
            pen, x, y, size = (
                ImageDraw.Draw(picture),
                chance.randint(10, 22),
                chance.randint(10, 22),
                chance.randint(5, 9),
            )
            box = (x - size, y - size, x + size, y + size)
            if name == "circle":
                pen.ellipse(box, outline=255, width=2)
            elif name == "square":
                pen.rectangle(box, outline=255, width=2)
            else:
                pen.line(box, fill=255, width=2)
                pen.line((box[0], box[3], box[2], box[1]), fill=255, width=2)
            picture.save(folder / name / f"{number}.png")
    return folder


def state(clone: Clone) -> dict[str, str]:
    """What the person's part of a clone holds: names and digests."""
    return {
        path.relative_to(clone.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("conf", "recipes", "dvc.yaml")
        for path in (
            [clone.folder / part] if part.endswith(".yaml") else (clone.folder / part).rglob("*")
        )
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which `shapes` was made like `images`."""
    folder = tmp_path_factory.mktemp("new")
    clone = make_clone(folder / "clone")
    clone.run("tidemill.engines.dvc")
    data = drawn(folder / "shapes")
    done = clone.tidemill("new", "shapes", "--like", "images", "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    clone.made = json.loads(done.stdout)  # type: ignore[attr-defined]
    return clone


def test_a_folder_of_pictures_becomes_an_application(shapes: Clone) -> None:
    made = shapes.made  # type: ignore[attr-defined]
    assert made["found"] == "120 pictures in 3 folders: circle 40, cross 40, square 40"
    assert all((shapes.folder / path).is_file() for path in made["made"].values())
    stages = yaml.safe_load((shapes.folder / "dvc.yaml").read_text())["stages"]
    assert "shapes" in stages["collect"]["foreach"]
    code = set(stages["label"]["foreach"]["shapes"].values())
    assert {"recipes/shapes/recipe.py", "recipes/images/recipe.py"} <= code
    body, like = (
        yaml.safe_load((shapes.folder / f"conf/recipe/{name}.yaml").read_text())
        for name in ("shapes", "images")
    )
    assert (
        body["gates"] == like["gates"]
        and body["nightly"] is False
        and body["sources"] == [{"name": "shapes"}]
    )


@pytest.mark.apps
def test_it_goes_the_whole_way_to_a_verdict(shapes: Clone) -> None:
    shapes.edit(
        "recipe/shapes.yaml",
        lambda body: (
            body["trainer"].update(max_epochs=1),
            body["score"].update(perturbed_rows=10, requests=60),
        ),
    )
    done = shapes.tidemill("run", "shapes", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    end = json.loads(done.stdout)
    assert end["state"] == "DryRun" and end["because"].split(":")[0] in (
        "PROMOTE",
        "HOLD",
        "REJECT",
    )
    rows = pd.concat(
        [
            pd.read_parquet(shapes.folder / f"data/splits/shapes/{part}.parquet")
            for part in ("train", "valid", "test")
        ]
    )  # less the few that are drawn alike
    assert 110 < len(rows) <= 120 and {json.loads(item)["label"] for item in rows["target"]} == set(
        CLASSES
    )


def test_unchanged_files_give_unchanged_records_and_a_new_one_is_one_more(
    shapes: Clone, tmp_path: Path
) -> None:
    def collected() -> dict[str, object]:
        done = shapes.run("tasks.collect", "more", TIDEMILL_RECEIPT=str(tmp_path / "receipt.json"))
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "receipt.json").read_text())

    folder = drawn(tmp_path / "more", 2)
    body = {
        "kind": "files",
        "licence": "own",
        "path": str(folder),
        "members": "*/*",
        "selector": [{"kind": "picture", "name": "picture", "label": "#([^/]+)/"}],
        "clean": {},
    }
    (shapes.folder / "conf/source/more.yaml").write_text(yaml.safe_dump(body))
    first, raw = collected(), shapes.folder / "data/raw/more"
    kept = {path.name: path.read_bytes() for path in raw.iterdir()}
    (folder / "circle" / "0.png").touch()
    again = collected()
    assert (first["fetched"], again["fetched"], again["unchanged"]) == (6, 0, 6) and again[
        "raw"
    ] == first["raw"]
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == kept
    (original,) = raw.glob("*.zip")
    assert hashlib.sha256(original.read_bytes()).hexdigest() == original.stem
    (folder / "circle" / "0.png").write_bytes((folder / "square" / "0.png").read_bytes())
    (folder / "cross" / "0.png").rename(folder / "cross" / "9.png")
    changed = collected()
    assert (changed["fetched"], changed["unchanged"], changed["gone"]) == (2, 4, 1)
    (folder / "cross" / "link.png").symlink_to("/etc/hostname")
    done = shapes.run("tasks.collect", "more")
    assert done.returncode == 2 and "is a link" in done.stderr
    (shapes.folder / "conf/source/more.yaml").unlink()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["images", "--like", "images", "--data", "GOOD"],
            "there is an application 'images' already",
        ),
        (["digits", "--like", "images", "--data", "GOOD"], "there is a source 'digits' already"),
        (
            ["Leaf Pictures", "--like", "images", "--data", "GOOD"],
            "'Leaf Pictures' cannot be a name",
        ),
        (
            ["mine", "--like", "imagse", "--data", "GOOD"],
            "images (pictures), languages (labelled texts), sentiment (texts with classes)",
        ),
        (["mine", "--like", "images", "--data", "MISSING"], "does not exist"),
        (["mine", "--like", "images", "--data", "EMPTY"], "is empty"),
        (["mine", "--like", "images", "--data", "."], "holds this project itself"),
        (["mine", "--like", "languages", "--data", "GOOD"], "circle/ holds no text"),
        (["mine", "--like", "stocks", "--data", "GOOD"], "a series is one CSV file"),
        (["mine", "--like", "images", "--data", "GOOD", "--column", "label"], "not KEY=COLUMN"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(
    shapes: Clone, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    named = {
        "GOOD": str(drawn(tmp_path / "good", 5)),
        "EMPTY": str(tmp_path / "empty"),
        "MISSING": str(tmp_path / "missing"),
    }
    before = state(shapes)
    done = shapes.tidemill("new", *[named.get(item, item) for item in arguments])
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1, (
        done.stderr
    )
    assert state(shapes) == before


def test_a_fault_while_it_is_written_leaves_nothing(shapes: Clone, tmp_path: Path) -> None:
    before = state(shapes)
    code = (
        "from pathlib import Path; from tidemill.engines.dvc import graph\n"
        "from tidemill.cli.new.make import make\n"
        "def broken(): raise OSError('no space left')\n"
        "graph.graph_text = broken\n"
        f"make('mine', 'images', Path({str(drawn(tmp_path / 'good', 5))!r}), {{}})"
    )
    (tmp_path / "broken.py").write_text(code)
    done = shapes.run("broken", PYTHONPATH=f"{shapes.folder}:{tmp_path}")
    assert done.returncode == 1 and "no space left" in done.stderr
    assert state(shapes) == before and not (shapes.folder / "recipes" / "mine").exists()


def test_the_package_in_the_guide_installs_and_its_network_is_trained_and_exported(
    shapes: Clone, tmp_path: Path
) -> None:
    guide = (HERE / "docs" / "application.md").read_text()
    for body in re.findall(r"```(?:toml|python)\n(.*?)```", guide, re.DOTALL):
        path = tmp_path / "leaf-models" / body.partition("\n")[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    done = shapes.run(
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
        str(tmp_path / "site"),
        str(tmp_path / "leaf-models"),
    )
    assert done.returncode == 0, done.stderr
    rows = [
        {"payload": path.read_bytes(), "target": json.dumps({"label": path.parent.name})}
        for path in sorted(drawn(tmp_path / "leaves", 4).rglob("*.png"))
    ]
    for part in ("train", "valid"):
        pd.DataFrame(rows).to_parquet(tmp_path / f"{part}.parquet")
    (tmp_path / "trained.py").write_text(f"""
import json
from pathlib import Path
from tidemill import contract
from tidemill.contract import Run, Splits
from tidemill.engines.config.schema import Trainer
learner = contract.load("leaves")(hidden=8).learner(Splits(Path({str(tmp_path)!r}), 1))
trainer = Trainer(accelerator="cpu", devices=1, strategy="auto", precision="32-true",
                  deterministic=True, max_epochs=1)
metrics = learner.fit(Run(trainer, 1, 1, "test")).metrics
(Path({str(tmp_path)!r}) / "package").mkdir()
apart = learner.export(Path({str(tmp_path)!r}) / "package")
network, code = type(learner.module).__name__, [str(path) for path in contract.code("leaves")]
print(json.dumps([contract.names(), network, sorted(metrics), apart, code]))
""")
    done = shapes.run("trained", PYTHONPATH=f"{shapes.folder}:{tmp_path}:{tmp_path / 'site'}")
    assert done.returncode == 0, done.stderr[-2000:]
    names, network, metrics, apart, code = json.loads(done.stdout.splitlines()[-1])
    assert (
        "leaves" in names
        and network == "Perceptron"
        and "valid_accuracy" in metrics
        and apart < 1e-4
    )
    assert code == [
        str(tmp_path / "site" / "leaf_models"),
        str(shapes.folder / "recipes" / "images"),
    ]
    done = shapes.tidemill(
        "new",
        "leaves",
        "--like",
        "images",
        "--data",
        str(drawn(tmp_path / "good", 5)),
        "--json",
        PYTHONPATH=f"{shapes.folder}:{tmp_path / 'site'}",
    )
    assert done.returncode == 0, done.stderr
    assert (
        json.loads(done.stdout)["made"]
        == {"recipe": "conf/recipe/leaves.yaml", "source": "conf/source/leaves.yaml"}
        and not (shapes.folder / "recipes/leaves").exists()
    )
    for kind in ("recipe", "source"):
        (shapes.folder / f"conf/{kind}/leaves.yaml").unlink()
    assert shapes.run("tidemill.engines.dvc").returncode == 0


def test_a_table_is_read_by_what_its_head_says(tmp_path: Path) -> None:
    path = tmp_path / "letters.csv"
    path.write_text(
        "Body;Topic\n"
        + "".join(f"letter {number};{'spam' if number % 2 else 'ham'}\n" for number in range(20))
    )
    found = survey("labelled texts", "mine", path, {})
    assert found.source["selector"] == [
        {"kind": "table", "name": "article", "text": "Body", "delimiter": ";", "language": "Topic"}
    ]
    assert found.counts == {"ham": 10, "spam": 10} and found.split["test"] == 0.3
    with pytest.raises(Refused, match="--column label=Subject: the table has Body, Topic"):
        survey("labelled texts", "mine", path, {"label": "Subject"})


def of_classes(folder: Path, form: str) -> Path:
    """Texts with classes, in a form that a person may bring; one of them has no class."""
    rows = [{"text": f"letter {at}", "topic": ("spam", "ham")[at % 2]} for at in range(20)]
    if form == "folder":
        for at, row in enumerate(rows):
            (folder / "texts" / row["topic"]).mkdir(parents=True, exist_ok=True)
            (folder / "texts" / row["topic"] / f"{at}.txt").write_text(row["text"])
        return folder / "texts"
    rows.append({"text": "who knows", "topic": ""})
    path = folder / f"letters.{form}"
    if form == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize("form", ["folder", "csv", "jsonl"])
def test_texts_with_classes_are_read_in_each_form_and_no_language_is_asked_of_them(
    tmp_path: Path, form: str
) -> None:
    found = survey("texts with classes", "mine", of_classes(tmp_path, form), {})
    assert found.counts == {"ham": 10, "spam": 10}
    assert ("1 without a class are left out" in found.told) == (form != "folder")
    (rule,) = found.source["selector"]
    assert "language" not in rule
    # What the source reads is what the label step finds the class in.
    bodies = [path for path in sorted(tmp_path.rglob("*.*")) if path.is_file()]
    application = contract.application("sentiment")
    labels = []
    for path in bodies:
        uri = f"files:mine#{path.relative_to(tmp_path / 'texts')}" if form == "folder" else "x"
        for part in cut(Rule(**rule), uri, path.read_bytes()):
            row = {"doc_id": "d", "uri": uri, "source": "mine", "text": part.text}
            options = {key: value for key, value in found.label.items() if value is not None}
            example = application.example(
                {**row, "attributes": json.dumps(part.attributes)}, options
            )
            labels.append((json.loads(example["target"])["label"], example["dropped"]))
    without = [] if form == "folder" else [("", "its source gives it no class")]
    assert sorted(labels) == sorted([("ham", None), ("spam", None)] * 10 + without, key=str)


def test_what_is_made_of_texts_with_classes_speaks_of_them_alone(tmp_path: Path) -> None:
    found = survey("texts with classes", "letters", of_classes(tmp_path, "csv"), {})
    kind = contract.load("sentiment")
    like = (HERE / "conf" / "recipe" / "sentiment.yaml").read_text()
    body = yaml.safe_load(recipe("letters", "sentiment", kind, like, found, found.summary))
    assert body["label"] == {"column": "topic"} and body["select"]["kinds"] == ["text"]
    made = recipe("letters", "sentiment", kind, like, found, found.summary)
    made += module("letters", "sentiment", kind, found, "letters.csv")
    assert "tidemill/families/texts/fields.py" in made
    for word in ("language", "rating", "tweet", "editorial", "VADER", "vader"):
        assert word not in made, word
    assert all(gate["why"] for gate in body["gates"])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('{"text": "a"\n', "line 1 of .* is not JSON"),
        ("[1, 2]\n", "is no record"),
        ('{"text": "a"}\n', "no column for label among text"),
        ('{"text": "a", "label": 1}\n', "has 1 value"),
        ("[" * 9000, "is not JSON"),
    ],
)
def test_json_lines_that_cannot_be_learned_from_are_refused(
    tmp_path: Path, body: str, says: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(body)
    with pytest.raises(Refused, match=says):
        survey("texts with classes", "mine", tmp_path / "rows.jsonl", {})


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "is empty"),
        ("text,label\n", "has a head and no rows"),
        ("a,b\n1,2\n", "no column for text among a, b; say --column text=NAME"),
        ("text,label\none\n", "row 2 of"),
        ("text,label\none,a\ntwo,a\n", "at least two classes"),
        ("text,text\n1,2\n", "the column 'text' twice"),
        ('text,label\n"one,a\n', "is no CSV table|not as many values"),
        ("text,label\none,a\ntwo,b\n", "no class of column label has 5 rows"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, body: str, says: str
) -> None:
    (tmp_path / "table.csv").write_text(body)
    with pytest.raises(Refused, match=says):
        survey("labelled texts", "mine", tmp_path / "table.csv", {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda folder: (folder / "loose.png").write_bytes(b"x"),
            "loose.png lies in no class's folder",
        ),
        (
            lambda folder: (
                (folder / "cross").rename(folder / ".cross")
                and (folder / "square").rename(folder / ".square")
            ),
            "has one folder, circle",
        ),
        (
            lambda folder: [
                (folder / one).rename(folder / two)
                for one, two in zip(CLASSES, ("train", "test", "valid"), strict=True)
            ],
            "are parts of a split and no classes",
        ),
        (
            lambda folder: [path.write_bytes(b"nothing") for path in (folder / "cross").iterdir()],
            "cross/ holds no picture",
        ),
        (
            lambda folder: [path.unlink() for path in sorted((folder / "cross").iterdir())[2:]],
            r"a class needs at least 5 pictures: cross \(2\)",
        ),
        (lambda folder: (folder / "cross" / "out").symlink_to("/etc"), "is a link"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(tmp_path: Path, change, says: str) -> None:
    folder = drawn(tmp_path / "pictures", 6)
    change(folder)
    with pytest.raises(Refused, match=says):
        survey("pictures", "mine", folder, {})


def test_days_of_several_series_are_split_by_time(tmp_path: Path) -> None:
    days = pd.bdate_range("2020-01-01", periods=400)
    rows = [f"{name},{day:%Y-%m-%d},1,2,1,1.5,100" for name in ("A", "B") for day in days]
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(["Symbol,Date,Open,High,Low,Close,Volume", *rows]))
    found = survey("series", "mine", path, {})
    assert (
        found.split["valid"] == f"{days[240]:%Y-%m-%d}"
        and found.split["test"] == f"{days[320]:%Y-%m-%d}"
        and found.counts == {"A": 400, "B": 400}
    )
    assert (
        found.source["selector"][0]["group"] == "Symbol"
        and found.label["columns"]["adjusted"] == ""
    )
    path.write_text(path.read_text().replace("Symbol", "Which"))
    with pytest.raises(
        Refused, match=r"come twice, and no column names the series; .* say --column group=NAME"
    ):
        survey("series", "mine", path, {})
