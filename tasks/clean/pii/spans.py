"""What recognisers share: a finding, and what may not stand beside one."""

Span = tuple[int, int, str]  # first character, the one behind the last, kind

# Letters and digits of scripts that put spaces between words. A letter of another script beside a
# number is no part of it: Chinese, Japanese and Thai write numbers without a space.
WORD = "0-9A-Za-z_\u00aa\u00b5\u00ba\u00c0-\u02ff\u0370-\u058f"


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())
