"""What the answers are: the voters' where that is asked for, then people's, who win."""

import json
import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.label import people
from tasks.label.facts import ID, ExampleFacts, hashes
from tasks.label.voting import NOTHING, Votes, decided, figures
from tidemill.engines.config.schema import LabelPolicy
from tidemill.records.reports import LabelReport, Unmatched
from tidemill.runtime.errors import Refused

log = logging.getLogger(__name__)

NAMED = 20  # examples of answers without one that a report names
UNSAID = "no voter says anything of it"
NONE = "people say that it is none of these"
TWICE = "its source asks this question twice"


@dataclass
class LabelDecision:
    """What becomes of n examples, and what of it is to be reported.

    Where people or voters decide, `answer` is a place in the facts' answers, else -1.
    """

    field: str  # of the answers that are labels; "" where they are none
    answer: np.ndarray  # (n,) int32
    confidence: np.ndarray  # (n,) float64, NaN where the answer is as given
    by_people: np.ndarray  # (n,) bool
    said: Sequence[str]  # what people say of the examples that they answered
    said_of: np.ndarray  # (n,) int32: its place there, or -1
    report: LabelReport


def answered(name: str, facts: ExampleFacts, policy: LabelPolicy) -> LabelDecision:
    """Let the voters decide where that is asked for, then the people, who win.

    Changes the reasons of `facts`. Raises Refused where answers are no labels, but such are asked.
    """
    rows = len(facts)
    nothing = np.full(rows, -1, dtype=np.int32)
    decision = LabelDecision(
        field=facts.field,
        answer=nothing,
        confidence=np.full(rows, np.nan),
        by_people=np.zeros(rows, dtype=bool),
        said=[],
        said_of=nothing.copy(),
        report={},
    )
    by_people = people.answers(name)
    if not facts.field:
        if policy.decide != "given" or policy.issues != "off" or by_people:
            raise Refused(
                f"recipe {name}: label.decide, label.issues and people's labels are for answers "
                f"that are labels; leave them out"
            )
        return decision
    _refuse_without(name, facts)
    _take_in(decision, facts, by_people)
    answers = facts.answers.values
    given = [answers[place] if place >= 0 else None for place in facts.answer]
    true = [decision.said[place] if place >= 0 else None for place in decision.said_of]
    votes = Votes(facts.ballots.values).taken(facts.votes)
    decision.report |= _measured(votes, given, true, policy)
    unmatched = _unmatched(name, facts, by_people)
    if unmatched:
        decision.report["unmatched"] = unmatched
    if policy.decide == "votes":
        _decide(decision, facts, votes, true)
    _take(decision, facts)
    return decision


def _refuse_without(name: str, facts: ExampleFacts) -> None:
    """Refuse rows whose target lacks the field that the first one has. Raises Refused."""
    lacking = [kind for fields, kind in facts.targets.items() if facts.field not in fields]
    if lacking:
        first = lacking[0]
        raise Refused(
            f"recipe {name}: the target of {sum(kind.count for kind in lacking):,} rows has no "
            f"'{facts.field}', first row {first.example_id} of document {first.doc_id}: "
            f"{first.target[:60]}; give it one in label or drop the row"
        )


def _take_in(decision: LabelDecision, facts: ExampleFacts, by_people: Mapping[str, str]) -> None:
    """Which examples people answered, and how."""
    if not by_people:
        return
    names = np.array(sorted(by_people), dtype=ID)
    place = np.minimum(np.searchsorted(names, facts.ids), len(names) - 1)
    decision.by_people = names[place] == facts.ids
    decision.said = [by_people[example] for example in sorted(by_people)]
    decision.said_of = np.where(decision.by_people, place, -1).astype(np.int32)


def _measured(
    votes: Votes, given: list[str | None], true: list[str | None], policy: LabelPolicy
) -> LabelReport:
    """What each voter is worth, by people's answers where there are enough of them."""
    count = sum(answer is not None for answer in true)
    enough = count >= policy.least_people
    measured_on = "people's labels" if enough else "the given labels"
    voters = figures(votes, given, true if enough else given, measured_on)
    return {"voters": voters, "people": count}


def _unmatched(name: str, facts: ExampleFacts, by_people: Mapping[str, str]) -> Unmatched | None:
    """Count and log the examples that people answered and that are not there today."""
    here = set(facts.ids[np.isin(facts.ids, np.array([*by_people], dtype=ID))].tolist())
    missing = sorted(example for example in by_people if example.encode() not in here)
    if not missing:
        return None
    counts: Unmatched = {"answers": len(missing), "examples": missing[:NAMED]}
    log.warning("%s", people.unmatched(name, counts))
    return counts


def _decide(
    decision: LabelDecision, facts: ExampleFacts, votes: Votes, true: Sequence[str | None]
) -> None:
    """Relabel every row by what its voters say; which way was taken, and how right each was."""
    way, answers, confidence, scores = decided(votes, true)
    unsaid = answers == NOTHING
    facts.dropped[unsaid] = facts.reasons.number(UNSAID)
    decision.answer = facts.answers.taken(votes.answers, np.where(unsaid, -1, answers))
    decision.confidence = np.where(unsaid, np.nan, confidence)
    decision.report["decided"] = {"by": way, **scores}


def _take(decision: LabelDecision, facts: ExampleFacts) -> None:
    """The answers that people gave."""
    rows = np.flatnonzero(decision.by_people)
    if not len(rows):
        return
    said = [decision.said[place] for place in decision.said_of[rows]]
    is_none = np.array([answer == people.NONE for answer in said], dtype=bool)
    facts.dropped[rows[is_none]] = facts.reasons.number(NONE)
    facts.dropped[rows[~is_none]] = -1
    kept = [answer for answer in said if answer != people.NONE]
    decision.answer[rows[~is_none]] = facts.answers.of(kept)
    decision.confidence[rows[~is_none]] = 1.0


def final_answers(decision: LabelDecision, facts: ExampleFacts) -> np.ndarray:
    """(n,) int32: the answer of each example as it was decided, in the facts' answers."""
    return np.where(decision.answer >= 0, decision.answer, facts.answer)


def targets(decision: LabelDecision, facts: ExampleFacts) -> np.ndarray:
    """(n,) uint64: the same where the target is the same, as it was decided."""
    changed = (decision.answer >= 0) & (decision.answer != facts.answer)
    if not changed.any():
        return facts.target
    written = hashes([target_of(decision.field, answer) for answer in facts.answers.values])
    return np.where(changed, written[decision.answer], facts.target)


def target_of(field: str, answer: str) -> str:
    return json.dumps({field: answer}, ensure_ascii=False)


def once(facts: ExampleFacts, target: np.ndarray, by_people: np.ndarray) -> None:
    """Of examples of a source that ask the same with the same answer one stays.

    It is the first by id, or the one that people answered. Where all answers are the same, as in an
    application without a target, no question is asked twice: all stay. `target`, (n,), is as
    `targets` gives it. Changes the reasons of `facts`.
    """
    usable = np.flatnonzero(facts.dropped < 0)
    if len(np.unique(target[usable])) <= 1:
        return
    keys = (facts.asked[usable, 0], facts.asked[usable, 1], target[usable])
    order = np.lexsort((facts.ids[usable], ~by_people[usable], *keys))
    again = np.ones(len(order), dtype=bool)
    again[0] = False
    for key in keys:
        again[1:] &= key[order[1:]] == key[order[:-1]]
    facts.dropped[usable[order[again]]] = facts.reasons.number(TWICE)


def alike_labels(facts: ExampleFacts, answer: np.ndarray) -> list[dict[str, int]]:
    """Answers that differ in spaces, case or Unicode form alone.

    Probably they are one answer, spelled in several ways.
    """
    values = facts.answers.values
    used = answer[(facts.dropped < 0) & (answer >= 0)]
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for place, count in zip(*np.unique(used, return_counts=True), strict=True):
        folded = unicodedata.normalize("NFKC", values[place]).casefold()
        spellings["".join(folded.split())][values[place]] += int(count)
    alike = [dict(sorted(counts.items())) for counts in spellings.values() if len(counts) > 1]
    for counts in alike:
        words = ", ".join(f"{answer!r} ({count:,})" for answer, count in counts.items())
        log.warning("labels that differ in spaces, case or Unicode form alone: %s", words)
    return alike


def applied(columns: dict[str, list[Any]], decision: LabelDecision, answers: Sequence[str]) -> None:
    """Write into the columns of some rows, whose numbers are in `row`, what was decided of them."""
    for place, row in enumerate(columns["row"]):
        if decision.by_people[row]:
            said = decision.said[decision.said_of[row]]
            votes = {**json.loads(columns["votes"][place]), "people": said}
            columns["votes"][place] = json.dumps(votes, sort_keys=True, ensure_ascii=False)
        if decision.answer[row] >= 0:
            answer = answers[decision.answer[row]]
            relabel(columns, place, decision.field, answer, float(decision.confidence[row]))


def relabel(
    columns: dict[str, list[Any]], place: int, field: str, answer: str, confidence: float
) -> None:
    """Another answer for a row, and for the slice that is named after the answer."""
    columns["confidence"][place] = round(confidence, 4)
    if json.loads(columns["target"][place]).get(field) == answer:
        return
    columns["target"][place] = target_of(field, answer)
    slices = json.loads(columns["slices"][place])
    if field in slices:
        columns["slices"][place] = json.dumps({**slices, field: answer}, sort_keys=True)
