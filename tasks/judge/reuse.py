"""How sure a pass must be, where several candidates were asked the same test rows.

Of 200 models no better than the champion, ten are shown to be better at one time in twenty. So
`score.alpha` is spent over the candidates that are tried until one goes live: the k-th of them
passes at alpha * 6 / (pi k)^2, and all of these together are alpha (1/1 + 1/4 + 1/9 + ... =
pi^2 / 6). Then a new champion is what the next ones are compared with, and the spending begins
anew, as in online control of false discoveries (Foster and Stine 2008; Javanmard and Montanari
2018): of the versions that go live, each is a false one with a chance of at most alpha, however
many were tried for it.
"""

from math import pi


def pass_level(alpha: float, tries: float) -> float:
    """The level at which the candidate number `tries` passes; fractions count too.

    A candidate that was asked half of today's rows has worn them by half.
    """
    return alpha * 6 / (pi * max(1.0, tries)) ** 2


def described(tries: float) -> str:
    """On which rows evidence is asked for, in words; empty on rows that nobody was asked."""
    return f"on test rows asked {tries:.3g} times " if tries > 1 else ""
