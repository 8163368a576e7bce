"""The data half's pure parts: cutting, copies, splits."""

import json
import random

import pandas as pd
import pytest
from pydantic import ValidationError

from tasks.clean.selectors import Unreadable, cut
from tasks.split.__main__ import refuse_empty
from tasks.split.rules import place, share
from tests.support.rooms import shingles
from tests.support.splits import leaks
from tidemill import contract
from tidemill.engines.config.schema import Rule, SplitRule
from tidemill.runtime.errors import Refused
from tidemill.text import normal
from tidemill.text.duplicates import copies

PAGE = (
    b"<page lang='de'><item n='1'><p>Eins</p><p>Zwei</p></item><item "
    b"n='2'><p>Drei</p></item></page>"
)
CATALOGUE = b"""msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

#. Default: "Save"
msgid "label_save"
msgstr "Speichern"

#, fuzzy
msgid "Open"
msgstr "Offen"

msgid "%d item"
msgid_plural "%d items"
msgstr[0] "%d Element"
msgstr[1] "%d Elemente"
"""


def test_xpath_cuts_a_page_into_its_parts() -> None:
    rule = Rule(
        kind="xpath",
        name="item",
        each="//item",
        part="concat('item-', @n)",
        text="p",
        language="string(/page/@lang)",
        attributes={"n": "string(@n)"},
    )
    parts = list(cut(rule, "u", PAGE))
    assert [(part.part, part.text, part.language, part.attributes) for part in parts] == [
        ("item-1", "Eins\nZwei", "de", {"n": "1"}),
        ("item-2", "Drei", "de", {"n": "2"}),
    ]


def test_gettext_gives_translations_with_their_english_and_leaves_fuzzy_ones_out() -> None:
    rule = Rule(
        kind="gettext", name="string", language="locale/([^/]+)/", original='Default: "(.*)"'
    )
    parts = list(cut(rule, "pkg#locale/de/a.po", CATALOGUE))
    assert [(part.text, part.original, part.language) for part in parts] == [
        ("Speichern", "Save", "de"),
        ("%d Element", "%d item", "de"),
    ]


def test_a_table_gives_a_document_a_row_and_whole_gives_one() -> None:
    rows = list(
        cut(
            Rule(kind="table", name="row", text="body", language="lang"),
            "u",
            b'body,lang,y\nHallo,de,1\n"a,b",en,0\n',
        )
    )
    assert [(row.place, row.text, row.language, row.attributes["y"]) for row in rows] == [
        ("row-1", "Hallo", "de", "1"),
        ("row-2", "a,b", "en", "0"),
    ]
    assert [part.text for part in cut(Rule(kind="whole", name="page"), "u", "Grüße".encode())] == [
        "Grüße"
    ]


def test_a_record_of_an_api_is_read_by_dotted_paths() -> None:
    rule = Rule(
        kind="json",
        name="item",
        text="body.parts",
        language="lang",
        attributes={"by": "author.name", "first": "body.parts.0", "none": "a.b"},
    )
    body = json.dumps(
        {"lang": "de", "body": {"parts": ["Eins", 2, {"x": 1}, None]}, "author": {"name": "Ada"}}
    ).encode()
    [part] = cut(rule, "u", body)
    assert (part.text, part.language, part.script, part.attributes) == (
        "Eins\n2",
        "de",
        "",
        {"by": "Ada", "first": "Eins", "none": ""},
    )
    with pytest.raises(ValidationError, match="json needs text"):
        Rule(kind="json", name="item")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("xpath", b"<a>"),
        ("gettext", b'msgid "a\nmsgstr'),
        ("whole", b"\xff\xfe\xff"),
        ("table", b"\xff\xfe\xff"),
        ("json", b"{"),
    ],
)
def test_what_cannot_be_opened_is_unreadable_with_a_reason(kind: str, body: bytes) -> None:
    with pytest.raises(Unreadable, match="not "):
        list(cut(Rule(kind=kind, name="x", text="p"), "u", body))  # type: ignore[arg-type]


def test_an_entity_bomb_and_an_outside_entity_stay_closed() -> None:
    body = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>'
    parts = list(cut(Rule(kind="xpath", name="a", each="//a"), "u", body))
    assert [part.text.strip() for part in parts] in ([""], ["&x;"])


def word(number: int) -> str:
    """A word of letters only, since digits do not count when texts are compared."""
    return "".join(chr(97 + number // 26**place % 26) for place in range(5))


WORDS = [word(number * 7919) for number in range(200)]


def edited(words: list[str], changes: int, seed: int) -> str:
    rng, out = random.Random(seed), list(words)
    for at in rng.sample(range(len(out)), changes):
        out[at] = "other" + word(rng.randrange(10**6))
    return " ".join(out)


def test_copies_are_found_within_a_group_and_the_first_stays_whatever_the_order() -> None:
    long = WORDS
    texts = [
        " ".join(long),
        " ".join(long).upper() + "!",
        edited(long, 4, 1),
        "short one",
        "Short one.",
        "another text altogether",
    ]
    groups = ["a", "a", "a", "a", "a", "a"]
    left_out = copies(texts, groups, 0.8)
    assert {row: kept for row, (kept, _) in left_out.items()} == {1: 0, 2: 0, 4: 3}
    assert left_out[1][1] == "exact" and left_out[2][1] == "near"
    assert copies(texts, list("abcdef"), 0.8) == {}


def test_membership_depends_on_the_row_alone() -> None:
    rule = SplitRule(source="s", by="hash", column="original", valid=0.1, test=0.2)
    rows = pd.DataFrame({"original": [f"string {number}" for number in range(5000)]})
    where = place(rule, rows)
    assert where.value_counts(normalize=True)["test"] == pytest.approx(0.2, abs=0.03)
    shuffled = rows.sample(frac=0.5, random_state=1)
    assert (place(rule, shuffled) == where[shuffled.index]).all()
    assert 0 <= share("x") < 1


def test_train_rows_that_are_copies_of_test_rows_are_left_out_with_the_reason() -> None:
    long = WORDS
    said = ["Speichern", "speichern!", " ".join(long), edited(long, 3, 2), "Öffnen", "Speichern"]
    examples = pd.DataFrame(
        {"inputs": [json.dumps({"text": item}) for item in said], "target": ["de"] * 5 + ["nl"]}
    )
    where = pd.Series(["train", "test", "test", "valid", "train", "train"])
    reasons = leaks(examples, where, 0.8)
    assert reasons.tolist() == [
        "exact duplicate of a test row",
        None,
        None,
        "near duplicate of a test row",
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("body", "script"),
    [
        ("Straße", "Latn"),
        ("мельница", "Cyrl"),
        ("水車です", "Jpan"),
        ("水車", "Hani"),
        ("123 !", "Zyyy"),
        ("물레방아", "Kore"),
    ],
)
def test_the_script_of_a_text(body: str, script: str) -> None:
    assert normal.script(body) == script


def test_a_language_of_too_few_texts_is_left_out_with_the_reason() -> None:
    base = {
        "source": "udhr",
        "kind": "article",
        "script": "Latn",
        "letter_script": "Latn",
        "original": "",
        "attributes": "{}",
        "chars": 40,
    }
    said = [("deu", f"Jeder hat das Recht auf Leben und Freiheit {word(n)}") for n in range(6)] + [
        ("pbu", "Tol insanan azad")
    ]
    rows = [
        {**base, "doc_id": str(n), "uri": f"u#{n}", "language": language, "text": body}
        for n, (language, body) in enumerate(said)
    ]
    application = contract.application("languages")
    found = application.label(pd.DataFrame(rows), {"min_examples": 5})
    assert found["dropped"].tolist() == [None] * 6 + ["fewer than 5 texts of its language"]


def rows_of(*said: tuple[str, str, str]) -> tuple[pd.DataFrame, pd.Series]:
    """Examples of (split, target, text)."""
    return (
        pd.DataFrame(
            {
                "inputs": [json.dumps({"text": body}) for _, _, body in said],
                "target": [target for _, target, _ in said],
            }
        ),
        pd.Series([split for split, _, _ in said]),
    )


SENTENCE = " ".join(word(n) for n in range(40))


def test_words_in_a_row_with_a_test_row_are_left_out_of_train_and_valid() -> None:
    run = " ".join(SENTENCE.split()[10:23])
    other, more = (" ".join(word(n) for n in range(at, at + 30)) for at in (100, 200))
    examples, where = rows_of(
        ("test", "de", SENTENCE),
        ("train", "de", f"{more} {run} {more}"),
        ("valid", "de", f"{run}, {other}"),
        ("train", "nl", f"{more} {run}"),
        ("train", "de", " ".join(run.split()[1:])),
        ("train", "de", " ".join(other.split()[:14]) + f" {word(500)} {word(501)} {word(502)}"),
    )
    assert leaks(examples, where, 0.8, 13).tolist() == [
        None,
        "13 words in a row with a test row",
        "13 words in a row with a test row",
        None,
        None,
        "13 words in a row with a valid row",
    ]
    assert leaks(examples, where, 0.8).isna().all(), "what is not asked is not looked at"


def test_letters_count_where_words_are_not_spaced() -> None:
    chinese = "人人生而自由在尊严和权利上一律平等他们赋有理性和良心并应以兄弟关系的精神相对待"
    examples, where = rows_of(
        ("test", "zh", chinese),
        ("train", "zh", "一二三" + chinese[5:31]),
        ("train", "zh", "一二三" + chinese[5:30]),
    )
    assert leaks(examples, where, 0.8, 13).tolist() == [
        None,
        "13 words in a row with a test row",
        None,
    ]


def test_an_answer_that_is_the_text_is_what_is_looked_at() -> None:
    examples, where = rows_of(
        ("test", json.dumps({"text": SENTENCE}), ""),
        ("train", json.dumps({"text": SENTENCE + " mehr"}), ""),
        ("train", json.dumps({"text": "etwas anderes"}), ""),
    )
    assert leaks(examples, where, 0.8, 13).tolist() == [None, "near duplicate of a test row", None]


@pytest.mark.parametrize("seed", range(20))
def test_no_cluster_of_copies_is_in_two_splits(seed: int) -> None:
    """Texts edited again and again lead from a test row to train rows that are not like it
    themselves.
    """
    random_ = random.Random(seed)
    said = []
    for _ in range(8):
        words = [word(random_.randrange(10_000)) for _ in range(30)]
        for _ in range(random_.randrange(1, 7)):
            said.append(
                (random_.choice(["train", "train", "valid", "test"]), "de", " ".join(words))
            )
            words[random_.randrange(len(words))] = word(random_.randrange(10_000))
    random_.shuffle(said)
    examples, where = rows_of(*said)
    kept = leaks(examples, where, 0.8, 13).isna()
    whole: list[set[int]] = []
    for row in range(len(said)):
        mine = set(shingles(said[row][2]))
        near = [
            group
            for group in whole
            if any(
                len(mine & set(shingles(said[other][2])))
                / len(mine | set(shingles(said[other][2])))
                >= 0.8
                for other in group
            )
        ]
        whole = [group for group in whole if group not in near] + [set().union({row}, *near)]
    for group in whole:
        assert len({said[row][0] for row in group if kept[row]}) == 1, [said[row] for row in group]
    held = {
        run
        for row in range(len(said))
        if said[row][0] == "test"
        for run in normal.runs(said[row][2], 13)
    }
    assert not any(
        held & set(normal.runs(said[row][2], 13))
        for row in range(len(said))
        if kept[row] and said[row][0] != "test"
    )


# Rows that are no prose ------------------------------------------------------------------------


def numbers_of(count: int, seed: int = 1) -> list[str]:
    drawn = random.Random(seed)
    return [
        json.dumps({"radius": drawn.random() * 30, "texture": drawn.random(), "kind": "round"})
        for _ in range(count)
    ]


def test_rows_of_numbers_are_copies_where_their_inputs_are_equal_and_not_else() -> None:
    inputs = numbers_of(40)
    invoices = [f"invoice {number} of 2024, total {number * 3}.50 EUR" for number in range(40)]
    for rows in (inputs, [json.dumps({"text": text}) for text in invoices]):
        examples = pd.DataFrame({"inputs": [*rows, rows[3]], "target": ["a"] * 41})
        where = pd.Series(["test"] * 20 + ["train"] * 21)
        reasons = leaks(examples, where, 0.8, 13)
        assert reasons.notna().tolist() == [False] * 40 + [True]
        assert reasons[40] == "exact duplicate of a test row"
    signs = pd.DataFrame(
        {"inputs": [json.dumps({"x": value}) for value in (1, -1, "1", "-1")], "target": ["a"] * 4}
    )
    assert leaks(signs, pd.Series(["test", "train", "train", "train"]), 0.8).isna().all()


def test_questions_are_compared_and_not_answers_where_the_answer_is_no_class() -> None:
    question = json.dumps({"text": SENTENCE})
    for target, reason in (
        ('{"label": "%s"}', None),
        ('{"sum": %s.5}', "exact duplicate of a test row"),
        ('{"answer": "a sentence that is long enough to be no class at all %s"}', ...),
    ):
        targets = [target % number for number in range(2)]
        examples = pd.DataFrame({"inputs": [question] * 2, "target": targets})
        found = leaks(examples, pd.Series(["test", "train"]), 0.8).tolist()
        expected = "exact duplicate of a test row" if reason is ... else reason
        assert found == [None, expected]


def test_an_application_says_which_of_its_fields_are_prose() -> None:
    examples, where = rows_of(
        ("test", "de", "one two three four five six"),
        ("train", "de", "one two three four five six x"),
    )
    assert leaks(examples, where, 0.8).isna().all()
    assert leaks(examples, where, 0.8, prose=("text",)).notna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("rule", "values", "words"),
    [
        (
            {"by": "hash", "test": 0.2},
            ["a", None, "c"],
            "'unit' is null in 1 rows, first in row e1",
        ),
        ({"by": "values", "test": ("x",)}, ["x", None, None], "null in 2 rows, first in row e1"),
        (
            {"by": "time", "valid": "2025-01-01", "test": "2026-01-01"},
            ["2025-01-01", "2025-02-30", "2025-03-01"],
            "'2025-02-30', which is no date, in row e1",
        ),
    ],
)
def test_a_value_that_decides_no_split_is_one_line_with_rule_column_and_row(
    rule: dict, values: list, words: str
) -> None:
    rows = pd.DataFrame({"unit": values, "example_id": ["e0", "e1", "e2"], "doc_id": list("abc")})
    with pytest.raises(Refused, match=words):
        place(SplitRule.model_validate({"source": "s", "column": "unit", **rule}), rows)


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match=r"valid 0.5 and test 0.6 add up to 1 or more"):
        SplitRule(source="s", by="hash", column="unit", valid=0.5, test=0.6)


def test_when_every_training_row_is_a_copy_the_message_says_so() -> None:
    where = pd.Series(["train"] * 3 + ["test", "valid"])
    reasons = pd.Series(["exact duplicate of a test row"] * 3 + [None, None])
    with pytest.raises(Refused, match="all 3 training rows were left out as copies of test rows"):
        refuse_empty("credit", where, reasons)
