"""Perturbations: the same harm for the same seed, small, and whatever stands beside."""

from typing import Any

import pytest

from tidemill import contract
from tidemill.kit import perturbations

SAID = [
    "All human beings are born free and equal",
    "Все люди рождаются свободными",
    "すべての人間は",
    "a",
    "12345",
    " ",
]


def test_text_perturbations_depend_on_the_seed_and_not_on_their_neighbours() -> None:
    one = perturbations.texts(SAID, 1, 100)
    assert one == perturbations.texts(SAID, 1, 100) != perturbations.texts(SAID, 2, 100)
    assert {name: found[:1] for name, found in one.items()} == perturbations.texts(SAID[:1], 1, 100)


def test_each_perturbation_does_what_its_name_says() -> None:
    found = perturbations.texts(SAID, 3, 100)
    assert found["case"][0] == SAID[0].upper() and found["case"][2] == SAID[2]
    assert [text.split() for text in found["whitespace"][:2]] != SAID[:2]
    assert "".join(found["whitespace"][0].replace("\u200b", "").split()) == "".join(SAID[0].split())
    assert found["typos"][0] != SAID[0] and abs(len(found["typos"][0]) - len(SAID[0])) <= 2
    changed = [(a, b) for a, b in zip(SAID[0], found["confusables"][0], strict=True) if a != b]
    assert 1 <= len(changed) <= 4 and all(not b.isascii() for _, b in changed)
    assert all(text for texts in found.values() for text in texts)
    assert (
        perturbations.texts(["x" * 50], 1, 40)["whitespace"][0].startswith(" x")
        and max(len(t) for f in perturbations.texts(["xy" * 25], 1, 40).values() for t in f) == 40
    )


def test_languages_perturbs_its_questions() -> None:
    application: Any = contract.application("languages")
    asked = [application.Input(text=text) for text in SAID]
    found = application.perturbations(asked, 1)
    assert set(found) == {"typos", "case", "whitespace", "confusables"}
    assert all(
        len(inputs) == len(asked) and isinstance(inputs[0], application.Input)
        for inputs in found.values()
    )


@pytest.mark.parametrize("name", sorted(perturbations.TEXT))
def test_a_text_of_one_letter_survives(name: str) -> None:
    assert perturbations.texts(["q"], 1, 10)[name][0].strip().lower() == "q"
