"""Receipts: what each command says of how its result came about, and the hashes that they are made of.

Loads no torch, so that `plan` and `prepare` need none.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, JsonValue

from autoseg import __version__
from autoseg.dataset.readers import files_of
from autoseg.errors import AutosegError
from autoseg.files import file_hash, read_record, text_hash
from autoseg.machine import available_cores
from autoseg.preprocessing.entry import StoreError
from autoseg.preprocessing.store import stored_hashes
from autoseg.records import Case, Fold, Receipt

#: Hex digits of the hashes in receipts.
DIGITS = 32

#: Libraries whose version may decide a bit of a result: what reads files and what computes.
LIBRARIES = ("torch", "numpy", "scipy", "SimpleITK", "nibabel")

#: What a hash is called where its files are not there or cannot be read.
GONE = "not there"


def versions() -> dict[str, str]:
    """Versions that decide results, for model headers and receipts."""
    return {
        "autoseg": __version__,
        "python": platform.python_version(),
        **{name: _installed(name) for name in LIBRARIES},
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return GONE


def plain(record: BaseModel) -> dict[str, JsonValue]:
    """A record as an option of a receipt."""
    options: dict[str, JsonValue] = record.model_dump(mode="json")
    return options


def joint_hash(parts: Mapping[str, str]) -> str:
    """One hash of several, by name; in whichever order they come."""
    return text_hash(json.dumps(dict(sorted(parts.items()))), DIGITS)


def short_hash(path: Path) -> str:
    """Hash of a file's bytes, or GONE."""
    try:
        return file_hash(path, DIGITS)
    except OSError:
        return GONE


def files_hash(paths: Iterable[Path]) -> str:
    """Hash over the bytes of files in this order; what they are called does not enter. GONE where one is not there."""
    try:
        return text_hash("".join(file_hash(file) for path in paths for file in files_of(path)), DIGITS)
    except (OSError, AutosegError):
        return GONE


def data_hash(cases: Sequence[Case]) -> str:
    """Hash over all files of the cases and what is said of them, wherever they lie and in whichever order they come.

    Case ids enter, since folds and random draws follow them. GONE where a file is not there.
    """
    with ThreadPoolExecutor(available_cores()) as pool:  # hashing holds no lock of the interpreter
        parts = dict(zip((case.id for case in cases), pool.map(_case_hash, cases), strict=True))
    return GONE if GONE in parts.values() else joint_hash(parts)


def _case_hash(case: Case) -> str:
    files = files_hash((*case.images, *case.label_paths))
    if files == GONE:
        return GONE
    names = [name for name, _ in case.label_files]
    return joint_hash({"files": files, "said": json.dumps([names, case.annotated, case.missing, case.trust_voxels])})


def fold_hash(fold: Fold) -> str:
    """Hash of which cases train and which are held out."""
    return text_hash(fold.model_dump_json(), DIGITS)


def prepared_hash(folder: Path, cases: Iterable[str]) -> str:
    """Hash over the prepared arrays of the named cases, as their entries tell it; GONE where one has none."""
    try:
        return joint_hash({case: joint_hash(stored_hashes(folder, case)) for case in cases})
    except StoreError:
        return GONE


def read_receipt(path: Path) -> Receipt | None:
    """The receipt in a file; None where there is none that can be read: it is no reason to stop."""
    try:
        return read_record(path, Receipt)
    except AutosegError:
        return None
