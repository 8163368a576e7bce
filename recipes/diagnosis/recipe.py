"""Is this tumour malignant?

Thirty measures of a picture's cells lead to a probability, and the costs of the two errors to an
answer. Nothing here names a column: conf/recipe says which table is read and what its labels are.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.families.tables.application import TableClassifier
from tidemill.families.tables.fields import TableRecipe


class TumourDiagnosis(TableClassifier):
    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "Showing how a table is learned from and judged; naming tumours that somebody who "
            "knows them should look at first."
        ),
        "limits": (
            "It knows thirty measures that a person took from one picture a tumour, at one "
            "hospital. Of 569 tumours some 170 are for testing, so no claim is finer than a few "
            "in a hundred."
        ),
        "out of scope": (
            "Diagnosing anybody. It is no medical device, and nobody has judged it on patients "
            "of today."
        ),
        "data": (
            "569 tumours of one hospital in Wisconsin, measured before 1995; 212 are malignant, "
            "many more than among those who are examined."
        ),
    }


class Diagnosis(TableRecipe):
    """Hyperparameters of boosted trees over a tumour's measures."""

    application = TumourDiagnosis
