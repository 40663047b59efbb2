"""What file names tell: which files belong to one case, which number is a channel, which file holds the labels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dicom import is_series_folder
from autoseg.dataset.listing import visible_files, visible_folders
from autoseg.dataset.readers import READERS, ending_of, stem_of
from autoseg.errors import DatasetError

CHANNEL_NUMBER = re.compile(r"^(.+)_(\d{4})$")

#: Last words of a file name by which people mark labels and images.
LABEL_WORDS = ("segmentation", "annotation", "labels", "label", "masks", "mask", "msk", "seg", "gt", "groundtruth")
IMAGE_WORDS = ("image", "img", "volume", "vol")

_LABEL_END = re.compile(rf"[-_. ]({'|'.join(LABEL_WORDS)})$", re.IGNORECASE)
_IMAGE_END = re.compile(rf"[-_. ]({'|'.join(IMAGE_WORDS)})$", re.IGNORECASE)


@dataclass(frozen=True)
class Grouping:
    """Images as they belong together: (case id, one path per channel), sorted; and how the names were read."""

    cases: tuple[tuple[str, tuple[Path, ...]], ...]
    note: str | None = None
    numbers_in_names: bool = False  # whether numbers like _0000, which could be channels, are read as part of the names


def data_files(folder: Path) -> list[Path]:
    """Files in a folder that are whole images or label maps by their ending, sorted by name.

    Hidden ones (.DS_Store, ._x) are left out, and so are slices of DICOM series.
    """
    endings = [(path, ending_of(path.name)) for path in visible_files(folder)]
    return [path for path, ending in endings if ending is not None and not READERS[ending].parts_of_images]


def image_entries(folder: Path) -> list[Path]:
    """Whole images in a folder, sorted by name: files as in `data_files`, and folders that hold a DICOM series."""
    series = [path for path in visible_folders(folder) if is_series_folder(path)]
    return sorted([*data_files(folder), *series], key=lambda path: path.name)


def safe_id(text: str, where: Path) -> str:
    """The text, if it can be a case id and so a file name; raises DatasetError."""
    if not text or text != text.strip() or text in (".", "..") or re.search(r'[/\\:*?"<>|\x00-\x1f]', text):
        raise DatasetError(
            f"{text!r} cannot be a case id",
            where=where,
            remedy="Case ids become file names: leave out slashes, colons, wildcards and quotes.",
        )
    return text


# ------------------------------------------------------------------------------------------------- channel numbers


def group_images(files: Sequence[Path], channels: int | None, label_stems: Collection[str] = ()) -> Grouping:
    """Which image files make one case each.

    A last `_0000`, `_0001`, … is a channel number where the label files are named without it, or, if no label decides,
    where every case has the same complete set that begins at `_0000` (of the size `channels`, if that is known).
    Otherwise it is part of the name. Raises DatasetError where the label files speak for both readings alike.
    """
    stems = [stem_of(path) for path in files]
    matches = [CHANNEL_NUMBER.match(stem) for stem in stems]
    if not any(matches):
        return _as_names(files, stems)
    numbers: dict[str, set[int]] = {}
    for match in matches:
        if match:
            numbers.setdefault(match[1], set()).add(int(match[2]))
    labels = {_without(stem, _LABEL_END) for stem in label_stems} | set(label_stems)
    by_base, by_name = len(labels & numbers.keys()), len(labels & set(stems))
    if by_base == by_name > 0 and any(found != {0} for found in numbers.values()):
        raise _two_ways(files, stems, numbers)
    by_rule = all(matches) and _complete(list(numbers.values()), channels)
    decided = by_rule if by_base == by_name else by_base > by_name
    if not decided:
        grouping = _as_names(files, stems)
        note = "numbers like _0000 at the end of file names are read as part of the case name"
        return Grouping(grouping.cases, note, numbers_in_names=True)
    return _as_channels(files, stems, numbers, channels)


def _two_ways(files: Sequence[Path], stems: Sequence[str], numbers: dict[str, set[int]]) -> DatasetError:
    """The error that shows both readings of the file names."""
    most = max(numbers, key=lambda base: len(numbers[base]))
    parts = [path.name for path, stem in zip(files, stems, strict=True) if CHANNEL_NUMBER.sub(r"\1", stem) == most]
    channels, cases = len(parts), len(numbers)
    return DatasetError(
        f"its file names can be read in two ways, and as many label files speak for the one as for the other:\n"
        f"  {cases} case{'s' * (cases > 1)} of {channels} channels: {most} is {', '.join(parts[:3])}"
        f"{', …' if channels > 3 else ''}\n"
        f"  {len(files)} cases of 1 channel: {', '.join(stems[:3])}{', …' if len(stems) > 3 else ''}\n",
        where=files[0].parent,
        remedy=f"Name all label files in one way: {most}{ending_of(parts[0])} for the first, "
        f"{parts[0]} for the second.",
    )


def _complete(sets: list[set[int]], channels: int | None) -> bool:
    if all(found == {0} for found in sets):
        return True
    if channels is not None:  # one complete case shows what the numbers mean; incomplete ones are then faults
        complete = set(range(channels))
        return channels > 1 and complete in sets and all(found <= complete for found in sets)
    first = sets[0]
    # a single case of many "channels" is more likely a folder of numbered cases
    return len(sets) > 1 and first == set(range(len(first))) and all(found == first for found in sets)


def _as_names(files: Sequence[Path], stems: Sequence[str]) -> Grouping:
    cases = [(_without(stem, _IMAGE_END), (path,)) for stem, path in zip(stems, files, strict=True)]
    return Grouping(tuple(sorted(cases)))


def _as_channels(
    files: Sequence[Path], stems: Sequence[str], numbers: dict[str, set[int]], channels: int | None
) -> Grouping:
    """Cases with a path for every expected channel: a missing one gets the path that it should have."""
    common = Counter(len(found) for found in numbers.values()).most_common(1)[0][0]
    single = all(found == {0} for found in numbers.values())  # perhaps each holding all channels
    expected = 1 if single else max(channels or common, 1)
    paths: dict[str, dict[int, list[Path]]] = {}
    cases: list[tuple[str, tuple[Path, ...]]] = []
    for path, stem in zip(files, stems, strict=True):
        match = CHANNEL_NUMBER.match(stem)
        if match:
            paths.setdefault(match[1], {}).setdefault(int(match[2]), []).append(path)
        else:
            cases.append((_without(stem, _IMAGE_END), (path,)))
    for base, by_number in paths.items():
        known = next(iter(by_number.values()))[0]
        wanted = sorted(set(range(expected)) | by_number.keys())
        # two files of the same case and channel (.nii beside .nii.gz) make the case appear twice: a duplicated id
        for copy in range(max(len(found) for found in by_number.values())):
            chosen = [by_number.get(number) or [_sibling(known, base, number)] for number in wanted]
            cases.append((base, tuple(found[min(copy, len(found) - 1)] for found in chosen)))
    note = "a last _0000 in file names is read as the channel number"
    if not single:
        note = f"numbers _0000 to _{expected - 1:04d} at the end of file names are read as channels"
    return Grouping(tuple(sorted(cases)), note)


def _sibling(known: Path, base: str, number: int) -> Path:
    return known.with_name(f"{base}_{number:04d}{ending_of(known.name)}")


# ----------------------------------------------------------------------------------------------------------- labels


def pair_labels(case_ids: Collection[str], label_files: Sequence[Path]) -> dict[str, list[Path]]:
    """Label files by the case they belong to: equal names, or equal after a last word like `_seg` or `-mask`."""
    ids = set(case_ids)
    pairs: dict[str, list[Path]] = {}
    for path in label_files:
        stem = stem_of(path)
        bare = _without(stem, _LABEL_END)
        numbered = CHANNEL_NUMBER.match(stem)
        for candidate in (stem, bare, numbered[1] if numbered else stem):
            if candidate in ids:
                pairs.setdefault(candidate, []).append(path)
                break
    return pairs


def without_label_word(stem: str) -> str:
    """The name of a case, without a last word by which people mark labels: "scan_1" of "scan_1_seg"."""
    return _without(stem, _LABEL_END)


def is_label_name(stem: str) -> bool:
    """Whether a word for labels is in a file name: "seg", "t1_mask", "gmseg_manual"."""
    words = re.split(r"[-_. ]+", stem.lower())
    return any(word in LABEL_WORDS or word.endswith(("seg", "mask")) for word in words)


def _without(stem: str, end: re.Pattern[str]) -> str:
    return end.sub("", stem) or stem
