"""What lies in a folder, without what systems hide there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from autoseg.errors import DatasetError


def visible_files(folder: Path) -> list[Path]:
    """All files of a folder that are not hidden, sorted by name."""
    return _listed(folder, lambda entry: not entry.name.startswith(".") and not entry.is_dir())


def visible_folders(folder: Path) -> list[Path]:
    """Folders in a folder that are not hidden, sorted by name."""
    return _listed(folder, lambda entry: not entry.name.startswith((".", "__")) and entry.is_dir())


def _listed(folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if wanted(entry))
    except OSError as error:
        raise DatasetError(f"cannot be listed ({error.strerror or error})", where=folder) from error
    return [folder / name for name in names]
