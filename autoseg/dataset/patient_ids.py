"""Patients as case ids name them: sub-01_ses-1, P12_visit2, case3_t0, X_baseline and X_followup, P7_1 and P7_2.

Each rule splits ids into a patient and what tells the scans of that patient apart. A rule holds only where the groups
that it makes look like scans of patients: ordinary numbered cases, sites, years and subsets do not.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

_SEPARATOR = r"[-_. ]"

#: Words that number the scans of a patient: "visit2", "ses-1", "slice_004".
_NUMBERED_WORDS = (
    "visit", "visits", "vis", "session", "sess", "ses", "timepoint", "time", "tp", "scan", "exam", "study", "series",
    "acquisition", "acq", "run", "repetition", "repeat", "rep", "phase", "frame", "slice", "slc", "section", "image",
    "img", "view", "tile", "patch", "crop", "roi", "part", "stack", "sample", "day", "week", "month", "year",
    "baseline", "bl", "followup", "fup", "fu",
)  # fmt: skip

#: Letters that do so right before a number: "t0", "v2", "d0129".
_NUMBERED_LETTERS = "tvsmdwy"

#: Words that stand for one scan of several by themselves.
_SCAN_WORDS = (
    "baseline", "bl", "followup", "follow-up", "follow_up", "fu", "pre", "post", "preop", "postop", "pre-op", "post-op",
    "before", "after", "initial", "final", "first", "second", "third", "last", "early", "late", "prior", "current",
    "retest", "ed", "es", "inhale", "exhale", "insp", "exp", "inspiration", "expiration",
    "left", "right", "lt", "rt", "l", "r", "od", "os",
)  # fmt: skip

#: Kinds of image, where each is a case of its own: "P01_ct", "P01_mr".
_KIND_WORDS = (
    "t1", "t1w", "t1c", "t1ce", "t1gd", "t2", "t2w", "flair", "pd", "pdw", "dwi", "adc", "dce", "ct", "cta", "cbct",
    "cect", "ncct", "mr", "mri", "pet", "arterial", "portal", "venous", "delayed", "native", "contrast",
)  # fmt: skip

_DATE = r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])"

_MARK = re.compile(
    rf"^(?P<patient>.+?){_SEPARATOR}(?:"
    rf"(?:{'|'.join(_NUMBERED_WORDS)})[-_.]?\d{{1,4}}|[{_NUMBERED_LETTERS}]\d{{1,4}}|"
    rf"{'|'.join(re.escape(word) for word in (*_SCAN_WORDS, *_KIND_WORDS))}|{_DATE})$",
    re.IGNORECASE,
)
_SUBJECT = re.compile(r"^(?P<patient>(?:.*?[-_. ])?sub-[0-9A-Za-z]+)(?=[-_. ])")
_NUMBER = re.compile(rf"^(?P<patient>.*[0-9A-Za-z]){_SEPARATOR}(?P<scan>\d{{1,4}})$")
_LETTER = re.compile(r"^(?P<patient>.*\d)(?P<scan>[a-e])$", re.IGNORECASE)

#: Words before a number of their own that count collections, not patients.
_COLLECTIONS = re.compile(
    r"(?:^|[-_. ])(?:site|cent(?:er|re)|clinic|hospital|scanner|vendor|dataset|set|batch|fold|group|cohort|split|part|"
    r"challenge|trial|protocol|version|v|brats|flare|amos|kits|lits|isles|totalseg)[-_. ]?\d*$",
    re.IGNORECASE,
)
_SUBSETS = re.compile(r"(?:^|[-_. ])(?:train|training|tr|test|testing|ts|val|validation)$", re.IGNORECASE)
_YEAR = re.compile(r"^(19|20)\d\d([-_.]?(0[1-9]|1[0-2]))?$")

#: Scans that patients have on average at most, where only a number or a letter tells them apart.
_MOST_SCANS = 6

#: The same where a word does, unless there are many patients (slices of volumes).
_MOST_MARKED_SCANS = 12
_MANY_PATIENTS = 5

#: Share of ids, and of groups, that must be alike for a rule to hold.
_NEARLY_ALL = 0.8


@dataclass(frozen=True)
class SeenPatients:
    """The patient of every case, as the ids name it."""

    patient_of: Mapping[str, str]
    rule: str


def patients_in_ids(case_ids: Iterable[str]) -> SeenPatients | None:
    """The patients that case ids name, or None where no two cases seem to be of one patient."""
    ids = sorted(case_ids)
    for rule, split, holds in _RULES:
        scans = {case_id: found for case_id in ids if (found := split(case_id)) is not None}
        groups: dict[str, list[str]] = defaultdict(list)
        for patient, scan in scans.values():
            groups[patient].append(scan)
        several = any(len(found) > 1 for found in groups.values())
        if several and len(groups) + len(ids) - len(scans) > 1 and holds(groups, len(ids)):
            return SeenPatients({case_id: scans[case_id][0] if case_id in scans else case_id for case_id in ids}, rule)
    return None


# ------------------------------------------------------------------------------------- an id as (patient, scan)


def _by_subject(case_id: str) -> tuple[str, str] | None:
    match = _SUBJECT.match(case_id)
    return None if match is None else (match["patient"], case_id[match.end() :])


def _by_mark(case_id: str) -> tuple[str, str] | None:
    """Patient and marks: one mark after the other is taken off the end."""
    rest = case_id
    while match := _MARK.match(rest):
        rest = match["patient"]
    return None if rest == case_id else (rest, case_id[len(rest) :])


def _by_number(case_id: str) -> tuple[str, str] | None:
    match = _NUMBER.match(case_id)
    return None if match is None else (match["patient"], match["scan"])


def _by_letter(case_id: str) -> tuple[str, str] | None:
    match = _LETTER.match(case_id)
    return None if match is None else (match["patient"], match["scan"].lower())


# --------------------------------------------------------------------------------- whether groups look like patients

Groups = Mapping[str, Sequence[str]]  # patient -> scans


def _always(_groups: Groups, _cases: int) -> bool:
    """BIDS leaves no doubt."""
    return True


def _marked_scans(groups: Groups, _cases: int) -> bool:
    """Words leave little doubt, unless the "patients" are a few subsets: train_scan_1, train_scan_2, test_scan_1."""
    mean = sum(map(len, groups.values())) / len(groups)
    if any(_SUBSETS.search(patient) for patient in groups) or (
        mean > _MOST_MARKED_SCANS and len(groups) < _MANY_PATIENTS
    ):
        return False
    if mean > _MOST_SCANS and any(_COLLECTIONS.search(patient) for patient in groups):
        return False
    return _numbers_tell(groups) or (len(groups) > 1 and mean <= _MOST_SCANS)


def _numbered_scans(groups: Groups, cases: int) -> bool:
    """A number alone says little: it must count 0, 1, 2, … or 1, 2, 3, … within patients that are numbered as well."""
    patients = list(groups)
    if sum(map(len, groups.values())) < _NEARLY_ALL * cases or not _numbers_tell(groups):
        return False
    if any(_YEAR.match(patient) or _COLLECTIONS.search(patient) for patient in patients):
        return False
    if not all(any(letter.isdigit() for letter in re.split(_SEPARATOR, patient)[-1]) for patient in patients):
        return False
    if sum(map(len, groups.values())) > _MOST_SCANS * len(groups):
        return False
    counted = [_counts_up([int(scan) for scan in scans]) for scans in groups.values() if len(scans) > 1]
    alone = [int(scans[0]) <= _MOST_SCANS for scans in groups.values() if len(scans) == 1]
    return sum(counted) >= _NEARLY_ALL * len(counted) and sum(alone) >= _NEARLY_ALL * len(alone)


def _lettered_scans(groups: Groups, cases: int) -> bool:
    """Letters must be those of every patient's first scans: a, b, c."""
    numbered = {patient: [str("abcde".index(scan)) for scan in scans] for patient, scans in groups.items()}
    return len(groups) > 1 and _numbered_scans(numbered, cases)


def _numbers_tell(groups: Groups) -> bool:
    """Whether numbers tell the patients apart: P1, P2, P3."""
    patterns = Counter(re.sub(r"\d+", "#", patient) for patient in groups)
    return len(patterns) < len(groups)


def _counts_up(numbers: Sequence[int]) -> bool:
    """Whether numbers begin at 0 or 1 and leave out few."""
    return min(numbers) <= 1 and max(numbers) - min(numbers) + 1 <= 1.5 * len(numbers)


_RULES: tuple[tuple[str, Callable[[str], tuple[str, str] | None], Callable[[Groups, int], bool]], ...] = (
    ("the part sub-… of the case ids (BIDS)", _by_subject, _always),
    ("case ids that differ only in a visit, scan, side, date or kind of image at their end", _by_mark, _marked_scans),
    ("case ids that differ only in a last number, which counts a patient's scans", _by_number, _numbered_scans),
    ("case ids that differ only in a last letter", _by_letter, _lettered_scans),
)
