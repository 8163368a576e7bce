"""A new application's three files.

They are made from the application it is like and from what was found in a person's data.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tidemill.cli.new.survey import SurveyResult
from tidemill.contract import Recipe

OWN = (
    "summary",
    "nightly",
    "cron",
    "timezone",
    "sources",
    "select",
    "label",
    "split",
)  # written anew; all else is the like's


def module(name: str, like: str, kind: type[Recipe], found: SurveyResult, data: str) -> str:
    """recipes/NAME/recipe.py: subclasses that change nothing.

    They say where a person changes what.
    """
    lines = "\n".join(
        f"        {json.dumps(key)}: {_literal(text)},"
        for key, text in _facts(like, found, data).items()
    )
    return _module_text(name, like, kind, lines)


def _facts(like: str, found: SurveyResult, data: str) -> dict[str, str]:
    """What the model card says of a new application, as long as nobody says more."""
    return {
        "intended use": found.summary,
        "limits": "It knows what its own data shows and answers in those terms whatever it is "
        "asked."
        + (f" It is made like {like}, whose limits hold too." if found.model is None else ""),
        "out of scope": "Not written down yet; decisions about people without a person's check in "
        "any case.",
        "data": f"{found.told}, of {data}. Who made them, when and for what is not written down "
        "yet.",
    }


def _module_text(name: str, like: str, kind: type[Recipe], facts: str) -> str:
    """The module's text around the lines of its facts."""
    question, own = kind.application, title(name)
    return f'''"""An application made like `{like}`.

All of it holds here until something below says otherwise.

The fields are in {fields_file(kind)}; conf/recipe/{name}.yaml sets them under `model:`.
docs/application.md says what each method is for.
"""

from typing import ClassVar

{imports(kind)}


class {own}Question({question.__name__}):
    """What is asked and how answers are judged: as in `{like}`, and what differs."""

    # What a person must know before using it, for the model card: say here what you know.
    facts: ClassVar[dict[str, str]] = {{
{facts}
    }}

    # Other labels than the data's own:   def label(self, documents, options)
    # Other simpler models to be held to: def baselines(self, splits, examples, options)
    # Questions any version must answer:  def golden(self)


class {own}({kind.__name__}):
    """Hyperparameters: those of `{like}`, and what differs."""

    application = {own}Question

    # A field of your own, or another default (from pydantic import Field):
    #     lr: float = Field(default=0.003, gt=0, description="...")
    # Another network: def learner(self, splits), giving a learner of your own. Put it into
    # network.py beside this file and import it inside the method: no torch up here.
'''


def fields_file(kind: type[Recipe]) -> str:
    """The file in which most of a recipe's fields are defined, within the project."""
    count = Counter(
        one.__module__
        for one in kind.__mro__
        for name in vars(one).get("__annotations__", {})
        if name in kind.model_fields
    )
    (module, _), *_ = count.most_common(1) or [(kind.__module__, 0)]
    return f"{module.replace('.', '/')}.py"


def imports(kind: type[Recipe]) -> str:
    """The lines that import a recipe and its application."""
    names: dict[str, list[str]] = {}
    for one in (kind, kind.application):
        names.setdefault(one.__module__, []).append(one.__name__)
    return "\n".join(
        f"from {module} import {', '.join(sorted(some))}" for module, some in sorted(names.items())
    )


def title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _literal(text: str) -> str:
    """A Python string on one line; JSON's is one, with a surrogate for nothing that we let in."""
    return (
        json.dumps(text, ensure_ascii=False)
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
        .replace("\x85", "\\x85")
    )


def source(name: str, path: str, found: SurveyResult) -> str:
    """conf/source/NAME.yaml"""
    head = {
        "kind": "files",
        "licence": "LicenseRef-own",
        "path": path,
        "members": found.source["members"],
    }
    return (
        f"# What {name} learns from: "
        f"{'one folder' if found.source['members'] != '*' else 'a folder or a file'} "
        "of your own, read anew at each run.\n"
        + _dump(head).replace(
            "licence: LicenseRef-own\n",
            "licence: LicenseRef-own    # an SPDX name, where others may use the data\n",
        )
        + f"\n{_dump({'selector': found.source['selector']})}"
        + f"\n{_dump({'clean': found.source['clean']})}"
    )


def recipe(
    name: str, like: str, kind: type[Recipe], text: str, found: SurveyResult, summary: str
) -> str:
    """conf/recipe/NAME.yaml: the like's, with its comments, but for what is about its data."""
    whole = yaml.safe_load(text)
    select = {
        key: value for key, value in whole["select"].items() if key not in ("kinds", "context")
    }
    blocks = [
        f"# Made like {like}, from your own data. Every number here is yours to change; "
        f"docs/application.md says what they are.\n{_dump({'summary': summary})}",
        "nightly: false                   # true: the clock retrains it\n",
        _dump({"sources": [{"name": name}]}),
        _dump({"select": {"kinds": found.kinds, **select}}),
        _dump({"label": _label(whole.get("label"), found)}),
        "# Rows that share what stands in `column` go the same way, now and in every later run.\n"
        + _dump({"split": _split(name, whole["split"], found)}),
        *_kept(name, kind, text, found),
    ]
    body = "\n".join(block.strip("\n") + "\n" for block in blocks)
    return _one_slice(body, {use["name"] for use in whole["sources"]}, name)


def _label(like: Mapping[str, object] | None, found: SurveyResult) -> dict[str, object]:
    """The like's options of labels with those of the data; one that is None goes."""
    options = {**(like or {}), **found.label}
    return {key: value for key, value in options.items() if value is not None}


def _split(name: str, like: Mapping[str, Any], found: SurveyResult) -> dict[str, object]:
    """The like's split with one rule, the data's; a split by time has the like's embargo."""
    rule = {"source": name, **found.split}
    if found.split["by"] == "time":
        rule["embargo"] = next((one["embargo"] for one in like["rules"] if one.get("embargo")), 0)
    kept = {key: value for key, value in like.items() if key != "rules"}
    return {**kept, "rules": [rule]}


def _kept(name: str, kind: type[Recipe], text: str, found: SurveyResult) -> list[str]:
    """The blocks of the like's file that hold for the new application too."""
    fields = f"# the fields of recipes/{name}/recipe.py and {fields_file(kind)}"
    blocks = []
    for key, block in _blocks(text):
        if key == "model" and found.model is not None:
            blocks.append(f"{fields}\n{_dump({'model': found.model})}")
        elif key == "gates" and found.gates:
            blocks.append(_bounded(block, found))
        elif key not in OWN:
            blocks.append(re.sub(r"# the fields of .*", fields, block))
    return blocks


def _bounded(gates: str, found: SurveyResult) -> str:
    """The block of gates with other bounds of some, each with its reason."""
    body = yaml.safe_load(gates)
    for gate in body["gates"]:
        if gate["name"] in found.gates:
            bound, gate["why"] = found.gates[gate["name"]]
            gate.update({key: bound for key in ("at_least", "at_most") if key in gate})
    return _dump(body)


def _one_slice(body: str, others: set[str], name: str) -> str:
    """The file with each required slice that is one of the like's sources, `others`, replaced.

    The one source there is, `name`, stands in their place.
    """

    def required(match: re.Match[str]) -> str:
        slices = [str(item) for item in yaml.safe_load(match.group("list"))]
        kept = [item for item in slices if item not in others]
        named = kept if len(kept) == len(slices) else [*kept, name]
        return f"{match.group('indent')}required: [{', '.join(named)}]\n"

    return re.sub(
        r"^(?P<indent> +)required:(?P<list> \[[^\]]*\]\n|\n(?:(?P=indent) *- .*\n)+)",
        required,
        body,
        flags=re.MULTILINE,
    )


def _blocks(text: str) -> list[tuple[str, str]]:
    """A YAML file's top-level keys, each with the text it has in the file."""
    starts = [*re.finditer(r"^([a-z_]+):", text, re.MULTILINE)]
    ends = [*(one.start() for one in starts[1:]), len(text)]
    return [(one.group(1), text[one.start() : end]) for one, end in zip(starts, ends, strict=True)]


def _dump(value: dict[str, object]) -> str:
    return yaml.safe_dump(
        value,
        sort_keys=False,
        allow_unicode=True,
        width=160,
        default_flow_style=None if "selector" in value or "split" in value else False,
    )


def places_of(root: Path, name: str) -> dict[str, Path]:
    """Where an application's own files lie."""
    return {
        "module": root / "recipes" / name / "recipe.py",
        "recipe": root / "conf" / "recipe" / f"{name}.yaml",
        "source": root / "conf" / "source" / f"{name}.yaml",
    }
