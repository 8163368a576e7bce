"""Each metric is its library's, whole.

Under weights it is what the library says of rows repeated as often.
"""

import numpy as np
import pytest
from scipy import linalg
from sklearn import metrics as sk

from tidemill.kit.metrics import classes, detection, distances, ranking, sequences, series

random = np.random.default_rng(7)
WEIGHTS = random.integers(0, 3, size=(4, 40)).astype(float)


def again(weights: np.ndarray) -> np.ndarray:
    """The rows a resample drew, as often as it drew them."""
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def test_log_loss_and_brier_are_scikit_learns() -> None:
    chances = random.dirichlet(np.ones(3), 40)
    right = random.integers(0, 3, 40)
    for mine in WEIGHTS:
        rows = again(mine)
        found = classes.mean(classes.log_loss_rows(chances[np.arange(40), right]), mine[None])[0]
        assert found == pytest.approx(sk.log_loss(right[rows], chances[rows], labels=[0, 1, 2]))
        assert classes.mean(classes.brier_rows(chances, right), mine[None])[0] == pytest.approx(
            sk.brier_score_loss(right[rows], chances[rows], labels=[0, 1, 2], scale_by_half=False)
        )


def test_ranking_is_scikit_learns_and_coverage_counts_what_somebody_is_shown() -> None:
    worth, score = random.integers(0, 4, (40, 12)).astype(float), random.random((40, 12))
    order = np.argsort(-score, axis=1)[:, :5]
    gains, ideal = np.take_along_axis(worth, order, axis=1), -np.sort(-worth, axis=1)[:, :5]
    rows = ranking.ndcg_rows(gains, ideal)
    for mine in WEIGHTS:
        assert classes.mean(rows, mine[None])[0] == pytest.approx(
            sk.ndcg_score(worth[again(mine)], score[again(mine)], k=5)
        )
    assert np.isnan(ranking.ndcg_rows(np.zeros((1, 5)), np.zeros((1, 5)))).all()
    assert ranking.recall_rows(np.array([[1, 0, 1], [0, 0, 0]]), np.array([4, 0])) == pytest.approx(
        [0.5, np.nan], nan_ok=True
    )
    assert ranking.coverage([[0, 1], [1], []], 4, np.array([[1.0, 1, 1], [0, 2, 0]])).tolist() == [
        0.5,
        0.25,
    ]


PAIRS = [
    ("the cat sat on the mat", "the cat sat on a mat"),
    ("ein Haus am See", "ein Haus am Meer"),
    ("все люди рождаются свободными", "все люди"),
    ("a b c d e", "a b c d e"),
    ("hello there", ""),
]
REFERENCES = [pair[0] for pair in PAIRS] * 8
ANSWERS = [pair[1] for pair in PAIRS] * 8


def test_bleu_and_chrf_are_sacrebleus_of_the_whole() -> None:
    from sacrebleu.metrics import BLEU, CHRF

    counts, grams = (
        sequences.bleu_rows(REFERENCES, ANSWERS),
        sequences.chrf_rows(REFERENCES, ANSWERS),
    )
    drawn = np.vstack(
        [WEIGHTS, np.ones(40), np.eye(40)[4], np.eye(40)[2]]
    )  # an empty answer alone, and one too short for a 4-gram
    for number, mine in enumerate(drawn):
        rows = again(mine)
        wanted, given = [REFERENCES[row] for row in rows], [ANSWERS[row] for row in rows]
        assert sequences.chrf(grams, drawn)[number] == pytest.approx(
            CHRF().corpus_score(given, [wanted]).score
        )
        if number < 5:
            assert sequences.bleu(counts, drawn)[number] == pytest.approx(
                BLEU().corpus_score(given, [wanted]).score
            )
    assert sequences.bleu(counts, drawn)[5] == 0


def test_bleu_without_a_hit_of_some_order_is_smoothed_as_sacrebleu_does() -> None:
    from sacrebleu.metrics import BLEU

    wanted, given = ["a b c d e f"], ["a b x c y d"]
    assert sequences.bleu(sequences.bleu_rows(wanted, given), np.ones((1, 1)))[0] == pytest.approx(
        BLEU().corpus_score(given, [wanted]).score
    )


def test_word_and_character_errors_are_edits_over_lengths() -> None:
    edits, lengths = sequences.errors(["the cat sat", "ja"], ["the bat", "ja ja"], "word")
    assert (edits.tolist(), lengths.tolist()) == ([2, 1], [3, 1])
    assert sequences.errors(["kitten"], ["sitting"], "character")[0].tolist() == [3]
    with pytest.raises(ValueError, match="unit='phone'"):
        sequences.errors([], [], "phone")


def test_errors_of_series_are_scikit_learns() -> None:
    target, answer = random.normal(size=40), random.normal(size=40)
    for mine in WEIGHTS:
        rows = again(mine)
        assert series.rmse(target - answer, mine[None])[0] == pytest.approx(
            sk.root_mean_squared_error(target[rows], answer[rows])
        )
        assert classes.mean(series.pinball_rows(target, answer, 0.9), mine[None])[
            0
        ] == pytest.approx(sk.mean_pinball_loss(target[rows], answer[rows], alpha=0.9))
        assert series.mase(target - answer, target, mine[None])[0] == pytest.approx(
            sk.mean_absolute_error(target[rows], answer[rows]) / np.abs(target[rows]).mean()
        )
    assert series.direction_rows(np.array([1.0, -1, 0]), np.array([2.0, 3, 1])) == pytest.approx(
        [1, 0, np.nan], nan_ok=True
    )


def boxes(count: int) -> np.ndarray:
    corner = random.random((count, 2)) * 60
    return np.hstack([corner, corner + 8 + random.random((count, 2)) * 25])


@pytest.mark.parametrize("least", [0.3, 0.5, 0.75])
def test_average_precision_is_cocos(least: float, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    targets = [boxes(int(count)) for count in random.integers(0, 6, 40)]
    answers = []
    for wanted in targets:  # moved copies and inventions
        made = np.vstack([wanted + random.normal(scale=3, size=wanted.shape), boxes(2)])
        answers.append((made, random.random(len(made))))
    found = detection.match(answers, targets, least)
    for mine in WEIGHTS[:2]:
        truth, said = [], []
        for number, row in enumerate(again(mine)):
            truth += [
                {
                    "id": len(truth) + place + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": flat(box),
                    "area": 100.0,
                }
                for place, box in enumerate(targets[row])
            ]
            said += [
                {"image_id": number, "category_id": 1, "bbox": flat(box), "score": float(score)}
                for box, score in zip(*answers[row], strict=True)
            ]
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(len(again(mine)))],
            "categories": [{"id": 1, "name": "x"}],
            "annotations": truth,
        }
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(said), "bbox")
        judge.params.iouThrs, judge.params.areaRng, judge.params.areaRngLbl = (
            np.array([least]),
            [[0, 1e10]],
            ["all"],
        )
        judge.evaluate()
        judge.accumulate()
        theirs = judge.eval["precision"][0, :, 0, 0, -1].mean()
        # Drawn twice, a picture's boxes tie; COCO interleaves them and we put them together.
        assert detection.average_precision(found, mine[None])[0] == pytest.approx(theirs, abs=0.01)
    capsys.readouterr()


def flat(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def test_nothing_found_is_nought_and_nothing_to_find_is_no_number() -> None:
    none = np.zeros((0, 4))
    found = detection.match([(none, np.zeros(0))], [boxes(2)], 0.5)
    assert detection.average_precision(found, np.ones((1, 1)))[0] == 0
    found = detection.match([(boxes(1), np.ones(1))], [none], 0.5)
    assert np.isnan(detection.average_precision(found, np.ones((1, 1)))[0])


def test_frechet_is_its_formula_and_a_histogram_differs_by_half_its_differences() -> None:
    made, real = random.normal(1, 2, size=(40, 3)), random.normal(size=(60, 3))
    for mine in WEIGHTS[:2]:
        drawn = made[again(mine)]
        one, two = np.cov(drawn, rowvar=False), np.cov(real, rowvar=False)
        theirs = ((drawn.mean(axis=0) - real.mean(axis=0)) ** 2).sum() + np.trace(
            one + two - 2 * linalg.sqrtm(one @ two).real
        )
        assert distances.frechet(made, real, mine[None])[0] == pytest.approx(theirs)
    rows = distances.histogram_rows(np.array([[0.1, 0.9], [0.6, 0.7]]), np.array([0, 0.5, 1]))
    assert rows.tolist() == [[1, 1], [0, 2]]
    assert distances.total_variation(
        rows, np.array([1.0, 1.0]), np.array([[1.0, 0], [0, 1]])
    ).tolist() == [0, 0.5]


def test_a_model_that_is_right_on_all_validation_rows_is_not_made_certain() -> None:
    """It was: 78 rows without an error made each answer 0 or 1, and ranks were lost."""
    from tidemill.kit.calibration import fitted, tempered

    random = np.random.default_rng(1)
    right = 1 - random.uniform(0.0001, 0.05, 78)
    chances = np.stack([right, 1 - right], axis=1).astype(np.float32)
    temperature = fitted(chances, np.zeros(78, int))
    assert 0.5 < temperature < 2
    assert len(np.unique(tempered(chances, temperature)[:, 1])) == 78


@pytest.mark.parametrize("sharp", [0.4, 1.0, 2.5])
def test_the_temperature_is_found_again_that_made_answers_too_sure(sharp: float) -> None:
    from tidemill.kit.calibration import fitted, tempered

    random = np.random.default_rng(2)
    honest = random.dirichlet([0.5] * 4, 20_000)
    targets = (random.random(20_000)[:, None] > honest.cumsum(axis=1)).sum(axis=1).clip(max=3)
    wrong = tempered(honest.astype(np.float32), sharp)
    assert fitted(wrong, targets) == pytest.approx(1 / sharp, rel=0.03)
