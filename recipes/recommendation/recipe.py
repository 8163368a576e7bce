"""Which films will this person want to see next?

The model knows what was seen together and what was seen last; nothing of who a person is.
"""

from __future__ import annotations

from typing import ClassVar

from tidemill.families.ranker.application import Ranking
from tidemill.families.ranker.fields import RankerRecipe


class FilmRanking(Ranking):
    facts: ClassVar[dict[str, str]] = {
        "intended use": (
            "Ranking films for somebody by those they rated, and studying how rankers are judged."
        ),
        "limits": (
            "What is learned is which films people rate next, and not which they like best; many "
            "rated a page of films in one sitting, so what came next is partly what the site "
            "showed. Films that fewer than five training users rated are never recommended, and "
            "what is popular is recommended more often than it is seen (`popularity_bias`). A "
            "user is judged after ratings of other users that may be later ones. Somebody of "
            "whom nothing is known gets what most users rated, and the answer says so."
        ),
        "out of scope": (
            "Inferring anything else of a person from what they saw; films after 2016; selling "
            "it: the ratings' licence allows research alone."
        ),
        "data": (
            "100,004 ratings of 9,066 films by 671 users of MovieLens, 1995 to 2016, each of whom "
            "rated twenty films or more. Users and films by number; nothing else of a user."
        ),
    }


class Recommendation(RankerRecipe):
    """Hyperparameters of the films' linear autoencoder."""

    application = FilmRanking
