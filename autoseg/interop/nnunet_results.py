"""Where nnU-Net keeps a trained model: a folder called trainer__plans__configuration, on disk or in a zip."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from autoseg.dataset.claims import is_possible_model
from autoseg.errors import ModelError

#: Checkpoints in the order in which they are wanted.
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth")

_FOLD = "fold_"
_LOOKS_LIKE = "It holds plans.json, dataset.json and fold_0/checkpoint_final.pth."


@dataclass(frozen=True)
class Results:
    """The files of one trainer__plans__configuration folder by their names in it."""

    name: str
    place: str  # for errors
    openers: Mapping[str, Callable[[], IO[bytes]]]

    @property
    def folds(self) -> tuple[str, ...]:
        """Folds with any checkpoint, by number; `all` last."""
        found = {
            path.parts[0].removeprefix(_FOLD)
            for path in map(PurePosixPath, self.openers)
            if len(path.parts) == 2 and path.parts[0].startswith(_FOLD) and path.suffix == ".pth"
        }
        return tuple(sorted(found, key=lambda fold: (not fold.isdecimal(), int(fold) if fold.isdecimal() else 0, fold)))

    def where(self, name: str) -> str:
        """One file as errors name it."""
        return f"{self.place}/{name}"

    def read(self, name: str) -> bytes:
        """The bytes of a small file. Raises ModelError where it is missing."""
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> IO[bytes]:
        """An open file. Raises ModelError where it is missing or damaged."""
        if name not in self.openers:
            raise ModelError(f"there is no {name}", where=self.place, remedy=f"Give a whole folder. {_LOOKS_LIKE}")
        try:
            return self.openers[name]()
        except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
            raise ModelError(f"cannot be read ({error})", where=self.where(name), remedy="Copy it again.") from error

    def checkpoint(self, fold: str, asked: str | None) -> tuple[str, str | None]:
        """The checkpoint of a fold, by its name in the folder, and a note where it is not the final one.

        Raises ModelError where there is none, or not the one that was asked for.
        """
        names = (asked,) if asked is not None else CHECKPOINTS
        for name in names:
            path = f"{_FOLD}{fold}/{name}"
            if path in self.openers:
                told = f"fold {fold} has no {CHECKPOINTS[0]}: {name} is taken, its training may not have ended"
                return path, None if asked is not None or name == CHECKPOINTS[0] else told
        there = [PurePosixPath(path).name for path in self.openers if path.startswith(f"{_FOLD}{fold}/")]
        raise ModelError(
            f"fold {fold} has no {' or '.join(names)}",
            where=self.place,
            remedy=f"It has {', '.join(sorted(there))}: name one with --checkpoint."
            if there
            else f"There are the folds {', '.join(self.folds) or '(none)'}.",
        )


def find_results(source: Path, wanted: str | None = None) -> Results:
    """The one model in a folder (or below it) or a zip; `wanted` chooses a configuration or folder among several.

    Raises ModelError where there is none or more than one.
    """
    if not source.exists():
        raise ModelError("does not exist", where=source, remedy=f"Give a folder of nnU-Net's results. {_LOOKS_LIKE}")
    found = _in_folder(source) if source.is_dir() else _in_zip(source)
    if not found:
        raise ModelError(
            "holds no model of nnU-Net",
            where=source,
            remedy=f"Give the trainer__plans__configuration folder. {_LOOKS_LIKE}",
        )
    chosen = [entry for entry in found if wanted is None or wanted in (entry.name, entry.name.rpartition("__")[2])]
    if len(chosen) == 1:
        return chosen[0]
    names = ", ".join(entry.name for entry in chosen or found)
    if not chosen:
        raise ModelError(f"holds no configuration {wanted!r}", where=source, remedy=f"It holds {names}.")
    raise ModelError(
        f"holds several models: {names}",
        where=source,
        remedy="Choose one with --configuration, by the name of its configuration or its folder.",
    )


def _in_folder(source: Path) -> list[Results]:
    if (source / "plans.json").is_file() or any(source.glob(f"{_FOLD}*/*.pth")):
        return [_on_disk(source)]
    # by checkpoints: masks that nnU-Net predicted lie beside a copy of plans.json too
    return [_on_disk(root) for root in sorted({path.parents[1] for path in source.rglob(f"{_FOLD}*/*.pth")})]


def _on_disk(root: Path) -> Results:
    paths = [*root.glob("*.json"), *root.glob(f"{_FOLD}*/*.pth")]
    openers = {path.relative_to(root).as_posix(): _opener(path) for path in sorted(paths)}
    return Results(root.resolve().name, str(root), openers)


def _opener(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _in_zip(source: Path) -> list[Results]:
    try:
        archive = zipfile.ZipFile(source)
        names = [PurePosixPath(name) for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"is neither a folder nor a zip that can be read ({error})",
            where=source,
            remedy="Give a folder of nnU-Net's results, or a zip that nnU-Net exported.",
        ) from error
    with archive:
        roots = sorted({path.parent.parent for path in names if _is_checkpoint(path)})
        return [_zipped(source, root, names) for root in roots]


def _is_checkpoint(path: PurePosixPath) -> bool:
    return path.suffix == ".pth" and path.parent.name.startswith(_FOLD)


def _zipped(source: Path, root: PurePosixPath, names: Sequence[PurePosixPath]) -> Results:
    openers = {}
    for name in names:
        if (name.parent == root and name.suffix == ".json") or (_is_checkpoint(name) and name.parent.parent == root):
            openers[name.relative_to(root).as_posix()] = _member_opener(source, name.as_posix())
    return Results(root.name or source.stem, f"{source}: {root}", openers)


def _member_opener(source: Path, name: str) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        # whole, since torch jumps about in a checkpoint; nothing is unpacked to the disk
        with zipfile.ZipFile(source) as archive:
            member = archive.getinfo(name)
            if not is_possible_model(member.file_size, member.compress_size):
                raise zipfile.BadZipFile(f"it unpacks {member.compress_size} bytes to {member.file_size}")
            return io.BytesIO(archive.read(member))

    return opened
