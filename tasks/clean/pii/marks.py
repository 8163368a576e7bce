"""What must not be learned by heart, replaced by typed marks.

It is addresses, numbers of people and keys.

Found: e-mail, public IPv4 and IPv6, telephone numbers (international, North American, or after a
word that says so), payment cards (Luhn, issuer, length), IBAN (ISO 13616, mod 97), national numbers
of twelve kinds (python-stdnum), keys, tokens and passwords. All are sought in a folded form of the
text, so width, hyphens, kinds of spaces and invisible characters hide nothing. The mark says what
was there; how many were found is kept, what they were is not.

Not found: names of people, postal addresses, birthdays, number plates. They have no form by which
to tell them, and what tells them by guess marks much else.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from tasks.clean.pii import addresses, numbers, phones, secrets
from tasks.clean.pii.folded import Folded
from tasks.clean.pii.spans import Span

LONGEST = 512  # characters of a value that a limit must not cut in two


def marked(text: str, before: str = "", limit: int | None = None) -> tuple[str, dict[str, int]]:
    """The text with each finding replaced by its mark, as [EMAIL].

    Also how many of each kind there were.

    `before` is what a reader sees before the text: the block above, the name of the column. Of a
    text that is longer than `limit` characters the rest is left out, and with it a value that lies
    across the limit.
    """
    if limit is not None and len(text) > limit:
        spans = [span for span in found(text[: limit + LONGEST], before) if span[0] < limit]
        across = spans.pop() if spans and spans[-1][1] > limit else None
        text = text[: across[0] if across else limit]
    else:
        spans = found(text, before)
    if not spans:
        return text, {}
    parts, at = [], 0
    for start, end, kind in spans:
        parts += [text[at:start], f"[{kind.upper()}]"]
        at = end
    return "".join([*parts, text[at:]]), dict(sorted(Counter(kind for _, _, kind in spans).items()))


def found(text: str, before: str = "") -> list[Span]:
    """Where something is and of what kind, in order; of two that overlap the more certain one."""
    folded = Folded.of(text)
    starts: list[int] = []
    spans: list[Span] = []
    for recogniser in _recognisers(folded.text, before):
        for span in recogniser(folded.text):
            place = bisect_left(starts, span[0])
            overlaps_earlier = place > 0 and spans[place - 1][1] > span[0]
            overlaps_later = place < len(starts) and starts[place] < span[1]
            if not overlaps_earlier and not overlaps_later:
                starts.insert(place, span[0])
                spans.insert(place, span)
    return [folded.original(span) for span in spans]


def _recognisers(text: str, before: str) -> Iterator[Callable[[str], Iterator[Span]]]:
    """The recognisers that can find anything in a text, the most certain first.

    Most texts need few.
    """
    yield secrets.secrets
    if addresses.may_have_email(text):
        yield addresses.emails
    yield numbers.ibans
    runs = numbers.windows(text)
    if runs:
        yield partial(numbers.cards, runs=runs)
        yield partial(numbers.nationals, runs=runs)
    if text.count(".") >= 3:
        yield addresses.ipv4
    if text.count(":") >= 2:
        yield addresses.ipv6
    if runs:
        yield partial(phones.phones, runs=runs, before=before)
