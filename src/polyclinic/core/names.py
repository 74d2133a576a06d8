"""Person names as search sees them: what counts as the same, and which words a name is found by."""

from __future__ import annotations

import re
import unicodedata

WORD_CHARACTERS = 64
"""A longer word is found by its beginning."""
_ACCENTS = re.compile("[\u0300-\u036f]")
_BETWEEN_WORDS = re.compile(r"[\s^,;.'\-]+")


def fold_name(name: str) -> str:
    """A person name without what matching leaves out: capitals, accents and empty components at the end of a group.

    Only accents of the Latin, Greek and Cyrillic kind go; marks that make another letter (Japanese, Korean) stay.
    """
    bare = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", name))).casefold()
    return "=".join(group.strip().rstrip("^ ") for group in bare.split("="))


def name_words(name: str) -> frozenset[str]:
    """The words a DICOM PN is found by, folded as `fold_name` does and without regard to width.

    Each component of each group is split at blanks and hyphens. A group outside ASCII also counts as one word without
    its separators, because Chinese, Japanese and Korean names are written so: both ``小东`` and ``王小东`` find
    ``Wang^XiaoDong=王^小东``.
    """
    words: set[str] = set()
    for group in fold_name(unicodedata.normalize("NFKC", name)).split("="):
        parts = [part for part in _BETWEEN_WORDS.split(group) if part]
        words.update(parts)
        if not group.isascii():
            words.add("".join(parts))
    return frozenset(word[:WORD_CHARACTERS] for word in words if word)


def search_words(text: str) -> tuple[str, ...]:
    """The words of what somebody searches for; a name fits when each is the beginning of one of its `name_words`."""
    folded = fold_name(unicodedata.normalize("NFKC", text)).replace("=", " ").replace("*", " ")
    return tuple(sorted({part[:WORD_CHARACTERS] for part in _BETWEEN_WORDS.split(folded) if part}))


def fits(name: str, searched: str) -> bool:
    """Whether a name is found by a searched text."""
    words = name_words(name)
    return all(any(word.startswith(wanted) for word in words) for wanted in search_words(searched))
