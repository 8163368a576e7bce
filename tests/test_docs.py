"""The documents say what the code does: references are complete, links lead somewhere."""

import re
from pathlib import Path

import pytest

from tidemill.cli.reference import FILES, commands, pages, rows

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_the_reference_is_what_the_code_says(name: str) -> None:
    there = (ROOT / "docs" / "reference" / name).read_text()
    assert there == pages()[name], "the reference is stale: make reference"


def test_every_setting_is_in_the_reference_once() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    for file, model in FILES.items():
        section = text.split(f"## `{file}`")[1].split("\n## ")[0]
        for setting, *_ in rows(model):
            assert section.count(f"| `{setting}` |") == 1, (file, setting)


def test_every_command_has_words_of_its_own() -> None:
    for section in commands().split("\n## ")[1:]:
        name, _, rest = section.partition("\n\n")
        assert len(rest.split("\n")[0]) > 10, f"{name} has no help"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|/)([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"
