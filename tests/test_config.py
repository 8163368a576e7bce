"""What a person may say, and what they are told when it makes no sense."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill import contract
from tidemill.engines import config
from tidemill.engines.config import layers, load
from tidemill.engines.config.schema import Gate
from tidemill.engines.config.schema.judging import unread
from tidemill.runtime import paths
from tidemill.runtime.errors import Refused


@pytest.mark.parametrize("name", config.files("source"))
def test_every_source_is_valid(name: str) -> None:
    assert config.source(name).name == name


@pytest.mark.parametrize("name", config.files("recipe"))
def test_every_recipe_is_valid_with_every_trainer_and_runtime(name: str) -> None:
    unshardable = {"languages", "text_generation"}  # tests/test_shards.py: refused by name
    for trainer in config.files("trainer"):
        if trainer == "fsdp" and name in unshardable:
            continue
        for runtime in config.files("runtime"):
            found = config.recipe(name, [f"trainer={trainer}", f"runtime={runtime}"])
            assert (found.trainer.name, found.runtime.name) == (trainer, runtime)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.lrr=1", "unknown key 'model.lrr'; there are batch"),
        ("modell.lr=1", "unknown key 'modell.lr'; there are model"),
        ("model.lr=-1", "model: lr=-1"),
        ("model.lr=fast", "model: lr='fast'"),
        ("sweep.trials=-3", "sweep.trials=-3"),
        ("trainer.max_epoch=1", "unknown key 'trainer.max_epoch'; there are accelerator"),
        ("trainer=tpu", "no trainer 'tpu'; conf/trainer has cpu, ddp, fsdp, gpu"),
        ("split.near_duplicates=1", "data has one truth: edit conf/recipe/languages.yaml"),
        ("lr", "'lr' is not key=value"),
        ("model..lr=1", "'model..lr' is no key"),
        ("model.lr=[1", "model.lr=[1: the value is not valid YAML"),
        ("trainer.max_epochs=" + "9" * 5000, "not valid YAML"),
        ("model.lr=" + "[" * 3000, "not valid YAML"),
        ("model=" + "x" * 5000, "model='x"),
        ("trainer=", "no trainer ''"),
        ("model.lr={lr: 1, lr: 2}", "found duplicate key lr"),
        ("gates=[]", "no gates, no promotion"),
    ],
)
def test_a_bad_override_is_refused_by_name_with_the_choices(override: str, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        config.recipe("languages", [override])
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


KIND = {"name": "f", "why": "w"}
GAP = KIND | {"kind": "gap", "metric": "accuracy"}
FAIR = KIND | {"kind": "fair", "metric": "accuracy", "by": "domain", "at_most": 0.1}
ROBUST = KIND | {"kind": "robust", "metric": "accuracy"}
NO_WORSE = {"name": "g", "kind": "no_worse", "metric": "accuracy", "margin": 0.01, "why": "w"}
FLOOR = {"name": "f", "kind": "limit", "metric": "accuracy", "at_least": 0.5, "why": "w"}


@pytest.mark.parametrize(
    ("gates", "says"),
    [
        ([NO_WORSE | {"margin": 5}], "gate g: margin=5 allows everything"),
        ([NO_WORSE, FLOOR | {"at_least": ".nan"}], "gates.1.at_least=nan"),
        ([NO_WORSE, FLOOR | {"at_least": ".inf"}], "gates.1.at_least=inf"),
        ([NO_WORSE, FLOOR | {"at_least": 1.5}], "gate f: at_least=1.5 asks nothing or too much"),
        ([NO_WORSE, FLOOR | {"at_least": None, "at_most": 0.9}], "write at_least"),
        ([NO_WORSE, FLOOR | {"margin": 0.1}], "gate f: limit does not read margin"),
        ([NO_WORSE, FLOOR | {"metric": "bleu"}], "gate f: no metric 'bleu'; the recipe has macro"),
        (
            [NO_WORSE | {"by": "planet"}],
            "gate g: no slice column 'planet'; score.slices has domain",
        ),
        ([NO_WORSE | {"action": "warn"}], "every gate has action: warn"),
        ([FLOOR], "no gate compares with the champion"),
        ([NO_WORSE, KIND | {"kind": "golden"}], "gate f: there are no golden rows; write some in"),
        ([NO_WORSE, KIND | {"kind": "golden", "at_most": 0}], "golden does not read at_most"),
        ([NO_WORSE, KIND | {"kind": "batch"}], "gate f: batch needs at_most"),
        ([NO_WORSE, KIND | {"kind": "batch", "at_most": 0.0}], "score.batch_rows=0"),
        ([NO_WORSE, KIND | {"kind": "batch", "at_most": 2}], "at_most=2: it is a share"),
        ([NO_WORSE, KIND | {"kind": "gap", "at_most": 0.1}], "gate f: gap needs a metric"),
        ([NO_WORSE, GAP | {"at_most": 0.1}], "gate f: score.train_rows=0"),
        ([NO_WORSE, GAP | {"at_most": -0.1}], "no number of rows shows that there is no"),
        ([NO_WORSE, GAP | {"at_most": 1.5}], "gate f: score.train_rows=0"),
        ([NO_WORSE, FAIR | {"by": []}], "gate f: fair needs `by`"),
        ([NO_WORSE, FAIR | {"by": "planet"}], "no slice column 'planet'"),
        ([NO_WORSE, FAIR | {"at_most": 3}], "gate f: at_most=3 allows everything"),
        ([NO_WORSE | {"against": "baseline"}], "no gate compares with the champion"),
        ([NO_WORSE, ROBUST | {"at_most": 5}], "gate f: at_most=5 allows everything"),
        ([NO_WORSE, ROBUST | {"at_most": 0}], "no number of rows shows that there is no"),
        ([NO_WORSE, KIND | {"kind": "same", "at_least": 0}], "gate f: same needs at_most"),
        (
            [NO_WORSE, KIND | {"kind": "small", "at_least": 0, "at_most": 1}],
            "gate f: small does not read at_least",
        ),
        ([NO_WORSE, KIND | {"kind": "small", "at_most": 0}], "at_most=0: no model is so small"),
        ([NO_WORSE, KIND | {"kind": "fast", "at_most": -1}], "at_most=-1: no model is so fast"),
        ([NO_WORSE, KIND | {"kind": "drift", "at_most": -1}], "a difference is 0 or more"),
        ([NO_WORSE, KIND | {"kind": "flips", "at_most": 0}], "no number of rows shows that there"),
    ],
)
def test_a_gate_that_cannot_do_what_it_says_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gates: list[dict], says: str
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(paths.conf(), conf)
    body = yaml.safe_load((conf / "recipe" / "languages.yaml").read_text())
    body["gates"] = gates
    text = yaml.safe_dump(body).replace("'.nan'", ".nan").replace("'.inf'", ".inf")
    (conf / "recipe" / "languages.yaml").write_text(text)
    monkeypatch.setattr(load, "conf", lambda: conf)
    with pytest.raises(Refused) as refusal:
        config.recipe("languages")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("score.few_units=0", "score.few_units=0"),
        ("score.alpha=0.2", "score.alpha=0.2"),
        ("score.perturbed_rows=0", "score.perturbed_rows=0: no perturbed question is asked"),
        ("score.requests=40", "gate speed: score.requests=40 gives p95 no upper end; it takes 59"),
    ],
)
def test_a_setting_that_makes_verdicts_dishonest_is_refused(override: str, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        config.recipe("languages", [override])
    assert says in str(refusal.value)


def test_a_ceiling_beside_a_floor_is_a_band() -> None:
    names = {gate.name for gate in config.recipe("stocks").gates}
    assert {"band not too narrow", "band not too wide"} <= names


def test_an_unknown_application_is_refused_with_the_choices() -> None:
    with pytest.raises(Refused, match=r"no recipe 'sentimnet'; recipes/ has .*languages"):
        config.recipe("sentimnet")


def test_a_later_layer_wins() -> None:
    assert config.recipe("languages").seed == config.general().seed
    assert config.recipe("languages", ["seed=7"]).seed == 7
    assert config.recipe("languages", ["trainer.max_epochs=0"]).trainer.max_epochs == 0


def test_the_key_of_a_run_moves_with_the_model_half_only() -> None:
    plain = config.recipe("languages").training()
    assert config.recipe("languages", ["model.lr=0.002"]).training() != plain
    assert config.recipe("languages").training() == plain


@pytest.mark.parametrize("name", contract.names())
def test_weights_are_refused_where_a_training_would_not_heed_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.conf(), tmp_path / "conf")
    path = tmp_path / "conf" / "recipe" / f"{name}.yaml"
    body = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**body, "label": {**body["label"], "issues": "weight"}}))
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    if name in ("images", "languages"):
        assert config.recipe(name).label.issues == "weight"
        return
    with pytest.raises(
        Refused,
        match=f"label.issues=weight: the training of {name} counts all its rows alike; say "
        "label.issues: off",
    ) as refusal:
        config.recipe(name)
    assert "\n" not in str(refusal.value)


def test_a_thousand_merges_in_eight_threads_all_give_what_one_gives() -> None:
    overrides = ["model.lr=0.002", "trainer.max_epochs=3", "sweep.trials=0"]
    alone = config.recipe("languages", overrides)
    own = yaml.safe_load((paths.conf() / "recipe" / "languages.yaml").read_text())
    merged = layers.merge([own, *map(layers.override, overrides)])

    def work(number: int) -> bool:
        if number % 20 == 0:
            return config.recipe("languages", overrides) == alone
        return layers.merge([own, *map(layers.override, overrides)]) == merged

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(2000)))


def test_numbers_and_dates_are_read_as_a_person_means_them() -> None:
    read = layers.parse("[1e-3, 1.5, .5, -2, 0.1e+2, 2026-11-24, 1_000, .inf, yes, 'no', null]")
    assert read[:5] == [0.001, 1.5, 0.5, -2, 10.0]
    assert read[5:] == ["2026-11-24", 1000, float("inf"), True, "no", None]


def test_a_mapping_is_merged_and_anything_else_is_replaced() -> None:
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"x": 1}}
    above = {"a": {"y": [3]}, "b": {"z": 2}, "c": None}
    assert layers.merge([below, above]) == {"a": {"x": 1, "y": [3]}, "b": {"z": 2}, "c": None}
    assert below["a"] == {"x": 1, "y": [1, 2]}, "a layer is not written to"


KEYS = st.sampled_from(
    ["model.lr", "model", "trainer.max_epochs", "sweep.space.lr", "gates", "seed", "trainer", "x"]
)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=40), st.builds("{}={}".format, KEYS, st.text(max_size=40))))
def test_any_override_is_taken_or_refused_on_one_line(override: str) -> None:
    try:
        config.recipe("languages", [override])
    except Refused as refusal:
        assert "\n" not in str(refusal)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("trainer: 5", "trainer=5 must be a mapping"),
        ("a: 1\na: 2", "found duplicate key a"),
        ("- 1", "must hold a mapping"),
        ("a: [", "is not valid YAML"),
        ("<<<<<<< ours\na: 1\n=======\n", "is not valid YAML"),
    ],
)
def test_a_damaged_file_of_conf_is_refused_by_name(
    body: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(paths.conf(), tmp_path / "conf")
    (tmp_path / "conf" / "recipe" / "languages.yaml").write_text(body + "\n")
    monkeypatch.setattr("tidemill.engines.config.load.conf", lambda: tmp_path / "conf")
    with pytest.raises(Refused, match=r"conf/recipe/languages\.yaml") as refusal:
        config.recipe("languages")
    assert says in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"inputs": {"text": "Guten Tag"}', "languages.jsonl line 1 is not JSON"),
        ('{"inputs": {"text": "Guten Tag"}}', "score.golden.0.answer"),
        ('{"inputs": {"texts": "Guten"}, "answer": {"language": "deu"}}', "row 1"),
        ('{"inputs": {"text": "Guten Tag"}, "answer": {"lang": "deu"}}', "row 1"),
        ('["deu"]', "score.golden.0"),
        (
            '{"inputs": {"text": "a"}, "answer": {"language": "deu"}}\n'
            '{"answer": {"language": "eng"}, "inputs": {"text": "a"}}',
            "rows 1 and 2 ask the same and want different answers",
        ),
    ],
)
def test_a_golden_row_that_is_no_question_or_no_answer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(paths.conf(), conf)
    (conf / "golden").mkdir()
    golden = conf / "golden" / "languages.jsonl"
    golden.write_text(line + "\n")
    monkeypatch.setattr(load, "conf", lambda: conf)
    with pytest.raises(Refused) as refusal:
        config.recipe("languages")
    assert says in str(refusal.value) and "\n" not in str(refusal.value)
    golden.write_text('\n{"inputs": {"text": "Guten Tag"}, "answer": {"language": "deu"}}\n')
    assert config.recipe("languages").score.golden[0].answer == {"language": "deu"}


def test_what_is_asked_and_judged_by_no_gate_is_told() -> None:
    asked = ["score.batch_rows=16", "score.train_rows=20"]
    plain = config.recipe("languages")
    assert unread(plain.gates, plain.score) == []
    words = unread(plain.gates, config.recipe("languages", asked).score)
    assert [line.split(":")[0] for line in words] == asked
    batch = Gate.model_validate(KIND | {"kind": "batch", "at_most": 0.01})
    assert len(unread((*plain.gates, batch), config.recipe("languages", asked).score)) == 1


def test_golden_rows_are_lines_whatever_separators_a_text_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(paths.conf(), conf)
    (conf / "golden").mkdir()
    golden = conf / "golden" / "languages.jsonl"
    golden.write_text('{"inputs": {"text": "a\u2028b\x85c"}, "answer": {"language": "deu"}}\r\n')
    monkeypatch.setattr(load, "conf", lambda: conf)
    (row,) = config.recipe("languages").score.golden
    assert row.inputs == {"text": "a\u2028b\x85c"}
    golden.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(Refused, match=r"languages\.jsonl is not UTF-8"):
        config.recipe("languages")
