"""Left and right in the names of labels, as people write them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

#: Words that say a side by themselves, without accents: English, German, French, Spanish, Portuguese, Italian, Latin,
#: Dutch, Swedish, Polish, Russian.
_WORDS = {
    "left": "right", "links": "rechts", "linke": "rechte", "linker": "rechter", "linkes": "rechtes", "gauche": "droite",
    "izquierdo": "derecho", "izquierda": "derecha", "esquerdo": "direito", "esquerda": "direita", "sinistro": "destro",
    "sinistra": "destra", "sinister": "dexter", "sinistrum": "dextrum", "linkerkant": "rechterkant",
    "vanster": "hoger", "lewy": "prawy", "lewa": "prawa", "lewe": "prawe",
    "левыи": "правыи", "левая": "правая", "левое": "правое",
}  # fmt: skip

#: The French masculine has its own form of only one side: "rein gauche", "rein droit".
_SECOND_FORMS = {"droit": "gauche"}

#: Abbreviations: they say a side only where the other side has its own label, named alike.
_ABBREVIATIONS = {
    "l": "r", "lt": "rt", "lft": "rgt", "lh": "rh", "li": "re", "g": "d", "izq": "der", "esq": "dir", "sin": "dex",
    "sn": "dx", "sx": "dx", "os": "od",
}  # fmt: skip

#: Abbreviations that are other things as well, and say nothing without the name of what lies there.
_NEVER_ALONE = ("g", "li", "sin", "sn", "sx", "os")

#: Words that mean a side and nothing else (French "droit" is a muscle as well, Dutch "hoger" is higher).
_PLAIN_WORDS = (
    "left", "right", "links", "rechts", "gauche", "izquierdo", "izquierda", "esquerdo", "esquerda", "sinistro",
    "sinistra", "sinister", "sinistrum",
)  # fmt: skip

#: Characters that say a side wherever they stand.
_CHARACTERS = {"左": "右"}

#: What lies on one side without a mirror image on the other: such a name shows no pair by itself.
_UNPAIRED = re.compile(r"ventric|atri|auric|heart|aort|\bmain\b|anterior descending|circumflex|coronar")

#: A first letter l or r is read as a side before at least so many common letters ("LKIDNEY", "RKIDNEY").
_LONG_STEM = 5

#: A single letter is one of a series, not a side, where the same name exists with letters other than these.
_SIDE_LETTERS = {"l": "lrmc", "g": "gdmc"}


def paired_names(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Names that say left and right of one thing, as (left, right), in the order of the names."""
    given = tuple(names)
    by_words = {_words(name): name for name in reversed(given)}
    pairs: dict[tuple[str, str], None] = {}
    for name in given:
        for partner in _partners(_words(name), by_words.keys()):
            pairs[(name, by_words[partner])] = None
    return tuple(pairs)


def one_sided_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names that say in a full word which of two sides is meant, of structures that exist on both ("left kidney").

    Chambers and vessels of the heart are named by sides as well but are no mirror images of each other.
    """
    found = []
    for name in names:
        words = _words(name)
        rest = [word for word in words if word not in _PLAIN_WORDS]
        if len(rest) == len(words) - 1 and rest and not _UNPAIRED.search(" ".join(rest)):
            found.append(name)
    return tuple(found)


def _partners(words: tuple[str, ...], known: Collection[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The words of right sides that belong to the words of a left side."""
    found = []
    for place, word in enumerate(words):
        before, after = words[:place], words[place + 1 :]
        for other in _other_sides(word):
            partner = (*before, *other, *after)
            if partner not in known:
                continue
            alone = len(words) == 1 and word in _NEVER_ALONE
            if not alone and not _is_series(before, word, after, known):
                found.append(partner)
    return found


def _other_sides(word: str) -> list[tuple[str, ...]]:
    """What a word of a left side becomes on the right; nothing for other words."""
    found: list[tuple[str, ...]] = []
    found += [(right,) for left, right in (*_WORDS.items(), *_ABBREVIATIONS.items()) if word == left]
    found += [(other,) for other, side in _SECOND_FORMS.items() if word == side]
    # written together: "leftkidney", "kidneyleft"
    for left, right in _WORDS.items():
        if word != left and word.startswith(left):
            found.append((right + word[len(left) :],))
        elif word != left and word.endswith(left):
            found.append((word[: -len(left)] + right,))
    found += [(word.replace(left, right),) for left, right in _CHARACTERS.items() if left in word]
    if word.startswith("l") and len(word) > _LONG_STEM and word not in _WORDS:
        found.append(("r" + word[1:],))
    return found


def _is_series(before: tuple[str, ...], word: str, after: tuple[str, ...], known: Collection[tuple[str, ...]]) -> bool:
    """Whether a letter counts through a series of names: zone_a, zone_b, …, zone_l, …, zone_r."""
    if word not in _SIDE_LETTERS:
        return False
    length = len(before) + 1 + len(after)
    letters = {
        words[len(before)]
        for words in known
        if len(words) == length and words[: len(before)] == before and words[len(before) + 1 :] == after
    }
    return any(len(letter) == 1 and letter not in _SIDE_LETTERS[word] for letter in letters)


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in small letters without accents: "LeftParotid_2" gives left, parotid, 2."""
    spaced = re.sub(r"(?<=[^\W\d_])(?=[A-ZÀ-Þ][^\W\d_A-ZÀ-Þ])|(?<=[a-zß-ÿ])(?=[A-ZÀ-Þ])", " ", name)
    plain = "".join(
        letter for letter in unicodedata.normalize("NFKD", spaced.casefold()) if not unicodedata.combining(letter)
    )
    return tuple(word for word in re.split(r"[\W_]+", plain) if word)
