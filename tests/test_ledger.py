"""Which version is live: a real registry, real signatures, and people who click in it."""

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import HERE
from tests.support.making import inside
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault, Refused

NAMES = (f"fruit{number}" for number in count())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with an empty registry."""
    folder = tmp_path_factory.mktemp("ledger")
    shutil.copytree(HERE / "conf", folder / "conf")
    with inside(folder):
        paths.settle()
        yield folder


@pytest.fixture
def fruit(project: Path) -> str:
    """An application with version 1 live, and 2 to 4 that may be."""
    return application("PROMOTE", "PROMOTE", "HOLD", "PROMOTE", live="1")


def application(*verdicts: str, live: str = "") -> str:
    name = next(NAMES)
    for verdict in verdicts:
        version(name, verdict)
    if live:
        promote(name, live, None)
    return name


def version(name: str, verdict: str, beside: str = "1") -> str:
    """A small signed package, registered with a verdict."""
    from tidemill.engines.mlflow import registry, runs, tags
    from tidemill.package import signing
    from tidemill.package.package import digests

    key = os.urandom(32).hex()
    folder = paths.state("made", key)
    folder.mkdir(parents=True)
    (folder / "table.json").write_text(json.dumps({"key": key}))
    signing.sign(folder)
    run_id = runs.start(name, key, key)
    runs.log_files(run_id, folder, "package")
    verdict_tags = {tags.KEY: key, tags.VERDICT: verdict, tags.BESIDE: beside}
    return registry.register(name, run_id, digests(folder)[0], verdict_tags)


def promote(name: str, number: str, expected: str | None, by: str = "a person") -> object:
    from tasks.register.promote import promote

    return promote(name, number, by, "a test", expected)


def live_version(name: str) -> str | None:
    from tidemill.engines.mlflow.live import live

    return live(name).version


def lines(name: str) -> str:
    from tidemill.engines.mlflow.condition import condition

    return "\n".join(condition(name).lines())


def ledger_tags(name: str) -> dict[str, str]:
    from tidemill.engines.mlflow import registry

    model = registry.model(name)
    assert model
    return {tag: text for tag, text in model.tags.items() if tag.startswith("ledger.")}


# The chain, without a registry --------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain_of_five(project: Path) -> dict[str, str]:
    """The tags of a ledger with five entries, versions 1 to 5."""
    from tidemill.engines.mlflow import chain
    from tidemill.runtime.files import canonical, digest

    tags, before, previous = {}, "", None
    for number in range(1, 6):
        note = chain.noted("gates", f"reason {number}")
        entry = chain.LedgerEntry(
            application="pear",
            number=number,
            at="2026-11-24T03:00:00+00:00",
            version=str(number),
            previous=previous,
            alias=previous,
            digest="d" * 64,
            note=note.digest(),
            before=before,
        )
        tags[chain.tag(number)] = chain.signed(entry)
        tags[chain.note_tag(number)] = canonical(note.model_dump())
        before, previous = digest(entry.model_dump()), str(number)
    head = chain.Head(application="pear", count=5, digest=before, live="5")
    return {**tags, chain.HEAD: chain.signed(head)}


def read_all(tags: dict[str, str], seen: object = None) -> list[str]:
    from tidemill.engines.mlflow import chain

    whole = chain.read("pear", tags, seen)  # type: ignore[arg-type]
    for entry in whole.entries:
        chain.note(entry, tags)
    return [entry.version for entry in whole.carried_out()]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_changed_or_removed_in_a_ledger_is_noticed(
    chain_of_five: dict[str, str], data: st.DataObject
) -> None:
    """Every entry, the last and the first too, the head, all of them; a note may be removed."""
    from tidemill.engines.mlflow import chain

    tags = dict(chain_of_five)
    seen = chain.read("pear", tags).head
    gone = data.draw(st.sets(st.sampled_from(sorted(tags)), max_size=len(tags)))
    changed = data.draw(st.none() | st.sampled_from(sorted(set(tags) - gone or tags)))
    for name in gone:
        tags.pop(name)
    if changed in tags:
        text = tags[changed]
        place = data.draw(st.integers(0, len(text) - 1))
        letter = data.draw(
            st.sampled_from('0123456789abcdef{}" ').filter(lambda c: c != text[place])
        )
        tags[changed] = text[:place] + letter + text[place + 1 :]
    entries_gone = [name for name in gone if not name.endswith(".note")]
    try:
        versions = read_all(tags, seen)
    except chain.BrokenChain as broken:
        assert entries_gone or changed in tags
        assert "rollback pear --to N" in str(broken) and "\n" not in str(broken)
        return
    same_json = changed in tags and json.loads(tags[changed]) == json.loads(chain_of_five[changed])
    assert not entries_gone and (changed not in tags or same_json)
    assert versions == ["1", "2", "3", "4", "5"]


def test_the_last_entry_removed_with_an_older_head_put_back_is_noticed_where_it_was_seen(
    chain_of_five: dict[str, str],
) -> None:
    from tidemill.engines.mlflow import chain
    from tidemill.runtime.files import digest

    whole = chain.read("pear", chain_of_five)
    older = chain.Head(
        application="pear", count=4, digest=digest(whole.entries[3].model_dump()), live="4"
    )
    tags = {**chain_of_five, chain.HEAD: chain.signed(older)}
    del tags["ledger.000005"], tags["ledger.000005.note"]
    with pytest.raises(chain.BrokenChain, match="5 entries were here, and 4 are left"):
        chain.read("pear", tags, whole.head)


def test_a_ledger_signed_with_another_key_is_noticed(
    chain_of_five: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from tidemill.engines.mlflow import chain
    from tidemill.package import signing

    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "other.pub").write_bytes(pem)
    monkeypatch.setenv("TIDEMILL_PUBLIC_KEY", str(tmp_path / "other.pub"))
    with pytest.raises(chain.BrokenChain, match="signed with another key"):
        chain.read("pear", chain_of_five)
    with pytest.raises(Fault, match="another key"):
        signing.signature("anything")
    monkeypatch.setenv("TIDEMILL_PUBLIC_KEY", str(tmp_path / "none.pub"))
    with pytest.raises(Fault, match="no public key"):
        chain.read("pear", chain_of_five)


def test_who_and_why_can_be_forgotten_and_the_chain_stays_whole(fruit: str) -> None:
    from tidemill.engines.mlflow import ledger, registry

    registry.drop_tag(fruit, "ledger.000001.note")
    assert [(entry.version, entry.by) for entry in ledger.ledger(fruit)] == [("1", "(removed)")]
    assert "a person" not in "".join(ledger_tags(fruit).values())
    assert lines(fruit) == ""


# Compare and swap ---------------------------------------------------------------------------------


def test_of_two_promotions_at_once_one_moves_and_the_other_says_so(fruit: str) -> None:
    start, outcomes = threading.Barrier(2), {}

    def one(number: str) -> None:
        start.wait()
        try:
            outcomes[number] = promote(fruit, number, "1", by="gates")
        except Fault as fault:
            outcomes[number] = fault

    threads = [threading.Thread(target=one, args=(number,)) for number in "24"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lost = [outcome for outcome in outcomes.values() if isinstance(outcome, Fault)]
    assert len(lost) == 1, outcomes
    winner = live_version(fruit)
    assert re.search(
        rf"version \d .* was to replace version 1, and version {winner} is live now", str(lost[0])
    )
    from tidemill.engines.mlflow import ledger

    assert [entry.version for entry in ledger.ledger(fruit)] == ["1", winner]


@pytest.mark.parametrize("by", ["gates", "a person"])
def test_what_was_compared_with_another_champion_moves_nothing(fruit: str, by: str) -> None:
    promote(fruit, "2", "1")
    before = ledger_tags(fruit)
    for expected in ("1", None):
        with pytest.raises(Fault, match="nothing was moved"):
            promote(fruit, "4", expected, by)
    assert live_version(fruit) == "2" and ledger_tags(fruit) == before


def test_an_approval_expects_the_champion_that_the_version_was_judged_beside(fruit: str) -> None:
    from tasks.register.promote import compared_with

    assert compared_with(fruit, "3") == "1"
    promote(fruit, "2", "1")
    with pytest.raises(Fault, match="replace version 1, and version 2 is live"):
        promote(fruit, "3", compared_with(fruit, "3"))
    promote(fruit, "3", compared_with(fruit, "3", replacing="2"))
    assert live_version(fruit) == "3"


def test_machines_that_share_a_registry_take_turns(fruit: str) -> None:
    """The turn of lock.py, without the kernel lock that one machine has besides."""
    from tidemill.engines.mlflow.lock import leased

    inside_now, most = [], 0

    def machine() -> None:
        nonlocal most
        for _ in range(2):
            with leased(fruit):
                inside_now.append(1)
                most = max(most, len(inside_now))
                inside_now.pop()

    threads = [threading.Thread(target=machine) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_the_turn_of_a_process_that_died_is_taken_at_once(fruit: str) -> None:
    from tidemill.engines.mlflow import lock, registry
    from tidemill.runtime.files import canonical
    from tidemill.runtime.lifetimes import identity

    dead = {**identity.me(), "began": 1}
    registry.set_tag(fruit, f"{lock.TAG}dead", canonical(dead))
    with lock.leased(fruit):
        pass
    model = registry.model(fruit)
    assert model and not [name for name in model.tags if name.startswith(lock.TAG)]


def test_an_entry_that_another_machine_overwrote_moves_no_alias(
    fruit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidemill.engines.mlflow import chain, ledger, registry

    record = ledger.record

    def overwritten(whole: object, entry: chain.LedgerEntry, note: chain.Note) -> chain.LedgerEntry:
        mine = record(whole, entry, note)  # type: ignore[arg-type]
        theirs = mine.model_copy(update={"version": "4"})
        registry.set_tag(fruit, chain.tag(mine.number), chain.signed(theirs))
        return mine

    monkeypatch.setattr(ledger, "record", overwritten)
    with pytest.raises(Fault, match="another machine promoted"):
        promote(fruit, "2", "1")
    assert registry.aliased(fruit, "champion") == "1"


# A kill anywhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writes", "moved", "then"),
    [(0, False, "2"), (1, False, "4"), (2, False, "2"), (2, False, "4"), (3, True, "4")],
)
def test_a_promotion_killed_between_any_two_writes_is_finished_or_noted_as_not_done(
    project: Path, writes: int, moved: bool, then: str
) -> None:
    """Note, entry, alias, head: killed after so many of them; then the same version, or another."""
    from tidemill.engines.mlflow import ledger, live, registry

    fruit = application("PROMOTE", "PROMOTE", "HOLD", "PROMOTE", live="1")
    pid = os.fork()
    if pid == 0:
        killed_after(writes, lambda: promote(fruit, "2", "1"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    now = live.live(fruit)
    assert now.version == ("2" if moved else "1") and not now.difference
    assert bool(now.unfinished) == (writes == 2)
    assert registry.aliased(fruit, "champion") == now.version
    promote(fruit, then, now.version)
    assert live_version(fruit) == then and lines(fruit) == ""
    history = [(entry.version, entry.carried_out) for entry in ledger.ledger(fruit)]
    between = {True: [("2", True)], False: [("2", False)] if writes == 2 else []}[moved]
    assert history == [("1", True), *([] if then == "2" else between), (then, True)]


def killed_after(writes: int, work: Callable[[], object]) -> None:
    from tidemill.engines.mlflow import registry

    left = [writes]

    def counted(write: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> None:
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            write(*arguments)

        return call

    for name in ("set_tag", "move"):
        setattr(registry, name, counted(getattr(registry, name)))
    try:
        work()
    finally:
        os._exit(1)


# A person in MLflow's pages -----------------------------------------------------------------------


def test_an_alias_moved_by_hand_is_told_and_the_ledgers_version_stays_live(fruit: str) -> None:
    from tasks.register.promote import before
    from tidemill.engines.mlflow import registry

    registry.move(fruit, "champion", "3")
    assert live_version(fruit) == "1"
    words = lines(fruit)
    assert f"version 1 of {fruit} is live" in words and "names version 3" in words
    with pytest.raises(Refused, match="names version 3"):
        promote(fruit, "4", "1", by="gates")
    with pytest.raises(Refused, match=r"--to 1"):
        before(fruit)
    promote(fruit, before(fruit, "3"), "1")
    assert live_version(fruit) == "3" and lines(fruit) == ""


def test_a_champion_without_its_alias_is_said_to_be_live_again_and_the_ledger_keeps_it(
    fruit: str,
) -> None:
    from tidemill.engines.mlflow import ledger, registry

    registry.drop(fruit, "champion")
    assert "names none" in lines(fruit) and live_version(fruit) == "1"
    with pytest.raises(Refused, match="names none"):
        promote(fruit, "2", "1", by="gates")
    promote(fruit, "1", "1")
    assert registry.aliased(fruit, "champion") == "1" and lines(fruit) == ""
    assert [entry.version for entry in ledger.ledger(fruit)] == ["1", "1"]
    promote(fruit, "2", "1", by="gates")
    from tasks.register.promote import before

    assert before(fruit) == "1"


def test_a_broken_ledger_starts_anew_with_a_persons_decision(fruit: str) -> None:
    from tidemill.engines.mlflow import ledger, registry

    promote(fruit, "2", "1")
    for name in ledger_tags(fruit):
        registry.drop_tag(fruit, name)
    assert "2 entries were here, and 0 are left" in lines(fruit)
    assert live_version(fruit) == "2"  # by what this machine saw
    with pytest.raises(Refused, match="is broken"):
        promote(fruit, "4", "2", by="gates")
    promote(fruit, "2", "2")
    assert lines(fruit) == ""
    assert [entry.number for entry in ledger.ledger(fruit)] == [3]
    promote(fruit, "4", "2", by="gates")
    assert live_version(fruit) == "4"


def test_a_note_that_was_changed_by_hand_stops_no_night(fruit: str) -> None:
    """Who and why decide nothing: the history says that they were changed, and all goes on."""
    from tidemill.engines.mlflow import ledger, registry

    promote(fruit, "2", "1")
    registry.set_tag(fruit, "ledger.000001.note", '{"by": "x", "why": "y", "secret": "z"}')
    first, second = ledger.ledger(fruit)
    assert (first.version, first.by, first.why) == ("1", ledger.CHANGED, ledger.CHANGED)
    assert (second.version, second.by, second.why) == ("2", "a person", "a test")
    assert ledger.anchor(fruit, "accuracy", "higher") == "1"


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("ledger.head", "not JSON"),
        ("ledger.head", "another application's"),
        ("ledger.000002", "not JSON"),
        ("ledger.999999", "not JSON"),
        ("ledger.123456789012", "not JSON"),
    ],
)
def test_whatever_broke_a_ledger_a_persons_decision_starts_it_anew(
    fruit: str, tag: str, text: str
) -> None:
    from tidemill.engines.mlflow import registry

    other = registry.model(application("PROMOTE", live="1"))
    assert other
    registry.set_tag(fruit, tag, other.tags[tag] if text.startswith("another") else text)
    assert "is broken" in lines(fruit)
    promote(fruit, "1", "1")
    assert lines(fruit) == "" and live_version(fruit) == "1"
    promote(fruit, "2", "1", by="gates")
    assert lines(fruit) == "" and live_version(fruit) == "2"


def test_a_reason_that_is_no_utf_8_is_kept_as_its_bytes(fruit: str) -> None:
    from tasks.register.promote import promote
    from tidemill.engines.mlflow import ledger

    promote(fruit, "2", "a person", b"Gr\xfc\xdfe".decode("utf-8", "surrogateescape"), "1")
    assert ledger.ledger(fruit)[-1].why == r"Gr\udcfc\udcdfe"


def test_a_number_in_other_digits_is_no_entry_of_the_ledger(fruit: str) -> None:
    from tidemill.engines.mlflow import registry

    for tag in ("ledger.00000\u0661", "ledger.0000001", "ledger.00001"):
        registry.set_tag(fruit, tag, "not JSON")
    assert lines(fruit) == ""


def test_a_version_is_named_as_it_is_written(fruit: str) -> None:
    """A database finds version 2 by 02 as well, and nothing else would know it by that name."""
    for number in ("02", "\u0662", " 2", "+2", "", "0", "9" * 30, "9" * 5000):
        with pytest.raises(Refused, match="no version"):
            promote(fruit, number, "1")
    assert live_version(fruit) == "1"


def test_a_rejected_version_is_not_promotable_by_a_changed_tag(project: Path) -> None:
    from tidemill.engines.mlflow import registry, tags

    name = application("PROMOTE", "REJECT", live="1")
    with pytest.raises(Refused, match="never goes live"):
        promote(name, "2", "1")
    registry.tag_version(name, "2", {tags.VERDICT: "PROMOTE"})
    for by in ("gates", "a person"):
        with pytest.raises(Refused, match="a tag was changed"):
            promote(name, "2", "1", by)
    one = registry.tag(name, "1", tags.SEAL)
    assert one
    registry.tag_version(name, "2", {tags.SEAL: one})
    with pytest.raises(Refused, match="a tag was changed"):
        promote(name, "2", "1")
    assert live_version(name) == "1"


def test_a_second_rollback_goes_further_back_past_what_was_rolled_away(fruit: str) -> None:
    from tasks.register.promote import before

    for number, expected in (("2", "1"), ("3", "2"), ("4", "3")):
        promote(fruit, number, expected)
    walked = []
    for _ in range(3):
        target = before(fruit)
        promote(fruit, target, live_version(fruit))
        walked.append(target)
    assert walked == ["3", "2", "1"]
    with pytest.raises(Refused, match="there is none before it"):
        before(fruit)
    promote(fruit, "4", "1")
    assert before(fruit) == "1"


def test_what_a_person_deleted_or_renamed_is_one_line_with_its_remedy(project: Path) -> None:
    from tidemill.engines.mlflow import client, registry, runs

    mlflow = client.connect()
    name = application("PROMOTE", "PROMOTE", live="1")
    one = registry.version(name, "1")
    assert one
    mlflow.delete_run(one.run_id)
    assert f"mlflow runs restore --run-id {one.run_id}" in lines(name)
    mlflow.restore_run(one.run_id)
    assert lines(name) == ""
    there = runs.artifacts(one.run_id)
    assert there
    shutil.move(there / "package", there / "elsewhere")
    assert "the package of version 1" in lines(name)
    with pytest.raises(Fault, match="is gone from MLflow's artifacts"):
        promote(name, "1", "1")
    shutil.move(there / "elsewhere", there / "package")
    mlflow.rename_registered_model(name, "renamed")
    assert "was renamed to renamed in MLflow" in lines(name)
    mlflow.rename_registered_model("renamed", name)
    assert lines(name) == ""
    mlflow.delete_model_version(name, "1")
    assert "version 1" in lines(name) and "it was deleted in MLflow" in lines(name)
    mlflow.delete_experiment(runs.experiment(name))
    assert "mlflow experiments restore --experiment-id" in lines(name)
    with pytest.raises(Refused, match="experiments restore"):
        runs.start(name, "another", "another")
    mlflow.delete_registered_model(name)
    assert "are gone from MLflow" in lines(name)
    assert not [line for line in lines(name).splitlines() if "Traceback" in line]


def test_a_version_that_was_registered_by_hand_is_refused_by_name(fruit: str) -> None:
    from tidemill.engines.mlflow import client, packages, runs

    run_id = runs.start(fruit, "by hand", "by hand")
    source = f"runs:/{run_id}/model"
    made = client.connect().create_model_version(fruit, source, run_id=run_id)
    with pytest.raises(Refused, match=r"has no tag tidemill\.digest"):
        packages.fetch(fruit, str(made.version))
    with pytest.raises(Refused, match="no version 99"):
        packages.fetch(fruit, "99")


def test_what_mlflow_raises_is_a_fault_of_one_line(project: Path) -> None:
    from tidemill.engines.mlflow import client, runs

    with pytest.raises(
        client.Missing, match=r"^MLflow at sqlite:///\S+: Run with id=0+ not found$"
    ):
        runs.data("0" * 32)
    with pytest.raises(Fault, match="MLflow at"):
        client.connect().get_registered_model("no such model")


def test_registrars_without_a_common_lock_end_with_one_version_and_no_error(project: Path) -> None:
    from tidemill.engines.mlflow import client, registry, runs

    name = next(NAMES)
    run_id = runs.start(name, "key", "key")
    start, numbers, errors = threading.Barrier(3), [], []

    def one() -> None:
        start.wait()
        try:
            numbers.append(registry.register(name, run_id, "d" * 64, {"tidemill.verdict": "HOLD"}))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    left = client.connect().search_model_versions(f"name = '{name}'")
    assert {str(item.version) for item in left} == set(numbers) and len(left) == 1


def test_what_another_registrar_removed_already_is_no_error(project: Path) -> None:
    """Two came to be, and both registrars remove the second: the later one finds it gone."""
    from tidemill.engines.mlflow import client
    from tidemill.engines.mlflow.idempotent import once

    mlflow = client.connect()
    fruit = application("HOLD", "HOLD")
    answers = iter([["1", "2"], ["1"]])

    def drop(number: str) -> None:
        mlflow.delete_model_version(fruit, number)
        mlflow.delete_model_version(fruit, number)

    assert once(lambda: next(answers), lambda: None, drop) == "1"


# Which test rows were asked before --------------------------------------------------------------


def tried(name: str, candidate: str, rows: range) -> float:
    from tidemill.engines.mlflow import reuse

    return reuse.note(name, candidate * 64, [f"row {number}" for number in rows]).tries


def test_test_rows_wear_by_how_many_of_them_each_candidate_was_asked(project: Path) -> None:
    from tidemill.engines.mlflow import client, runs

    name = application("PROMOTE", live="1")
    assert tried(name, "a", range(3000)) == 1
    assert tried(name, "b", range(3001)) == 2, "one more row begins nothing anew"
    assert tried(name, "b", range(3001)) == 2, "the same candidate again is one try"
    half_new = tried(name, "c", range(1500, 4500))
    assert half_new == pytest.approx(2, abs=0.3), "two candidates were asked half of them"
    assert tried(name, "d", range(9000, 12_000)) == 1, "nobody was asked these"
    connected = client.connect()
    for run in connected.search_runs([runs.experiment(name)]):
        connected.delete_run(run.info.run_id)
    assert tried(name, "e", range(3000)) == pytest.approx(3.5, abs=0.2), "runs may be cleaned away"


def test_a_new_champion_ends_the_wear_and_a_rollback_does_not(project: Path) -> None:
    name = application("PROMOTE", "PROMOTE", live="1")
    for candidate in "abc":
        worn = tried(name, candidate, range(500))
    assert worn == 3
    promote(name, "2", "1")
    assert tried(name, "d", range(500)) == 1
    promote(name, "1", "2")
    assert tried(name, "e", range(500)) == 2


def test_a_record_of_test_rows_that_was_changed_counts_whole(project: Path) -> None:
    from tidemill.engines.mlflow import client, reuse, runs

    name = application("PROMOTE", live="1")
    tried(name, "a", range(500))
    where = runs.experiment(name)
    connected = client.connect()
    (tag,) = [tag for tag in connected.get_experiment(where).tags if tag.startswith(reuse.PREFIX)]
    body = json.loads(connected.get_experiment(where).tags[tag])
    body["content"]["hashes"] = ""
    connected.set_experiment_tag(where, tag, json.dumps(body))
    assert tried(name, "b", range(500)) == 2


def test_a_record_of_an_earlier_champions_time_put_over_others_counts_whole(project: Path) -> None:
    from tidemill.engines.mlflow import client, reuse, runs

    name = application("PROMOTE", "PROMOTE", live="1")
    tried(name, "a", range(500))
    promote(name, "2", "1")
    for candidate in "bc":
        tried(name, candidate, range(500))
    where, connected = runs.experiment(name), client.connect()
    earlier = connected.get_experiment(where).tags[reuse.PREFIX + "a" * 16]
    for candidate in "bc":
        connected.set_experiment_tag(where, reuse.PREFIX + candidate * 16, earlier)
    assert tried(name, "d", range(500)) == 3


@pytest.mark.parametrize("count", [100, 3000])
def test_a_candidate_that_is_asked_other_rows_still_knows_the_first(
    project: Path, count: int
) -> None:
    name = application("PROMOTE", live="1")
    tried(name, "a", range(count))
    tried(name, "a", range(10_000, 10_000 + count))
    assert tried(name, "b", range(count)) == 2
    assert tried(name, "c", range(20_000, 20_000 + count)) == 1


def test_a_few_rows_of_a_large_test_set_count_as_asked(project: Path) -> None:
    name = application("PROMOTE", live="1")
    tried(name, "a", range(100_000))
    assert tried(name, "b", range(50)) == 2


def test_records_of_earlier_champions_are_kept_so_long(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidemill.engines.mlflow import client, reuse, runs

    monkeypatch.setattr(reuse, "KEPT", 2)
    name = application("PROMOTE", "PROMOTE", live="1")
    for candidate in "abcd":
        tried(name, candidate, range(20))
    promote(name, "2", "1")
    for candidate in "ef":
        tried(name, candidate, range(20))
    tags = client.connect().get_experiment(runs.experiment(name)).tags
    left = [tag[len(reuse.PREFIX)] for tag in tags if tag.startswith(reuse.PREFIX)]
    assert len(left) == 4 and {"e", "f"} <= set(left)
