"""Will this request for a mortgage be refused?

The model says what banks did in 1990, and which columns speak for its answer. Whether a request is
of a Black family is not asked; it is a slice, between whose groups the gaps are judged.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.families.tables.application import TableClassifier
from tidemill.families.tables.fields import TableRecipe


class CreditRefusal(TableClassifier):
    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "Studying who was refused a mortgage, and how far a model that learns from such "
            "decisions repeats them."
        ),
        "limits": (
            "It learned what banks decided and not who paid back. The group that is not asked can "
            "be guessed from other columns, so leaving it out makes no answer fair; the slices "
            "and the gate `fair` say how large the gaps are. A reason is a column that moved "
            "this answer, and no advice on what to change."
        ),
        "out of scope": (
            "Deciding on anybody's credit. Law in many countries asks for more than this, a "
            "person's look and a right to object among it."
        ),
        "data": (
            "2,380 requests in Boston in 1990, of which 285 were refused; 339 are of Black "
            "families, 96 of them refused. Collected because refusals were unequal."
        ),
    }


class Credit(TableRecipe):
    """Hyperparameters of boosted trees over a request."""

    application = CreditRefusal
