"""`info`: what a model file says of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.errors import AutosegError, ModelError
from autoseg.files import file_hash, read_record
from autoseg.model_file import count_parameters, read_header
from autoseg.pipeline.selected import DIGITS
from autoseg.records import Compared, Configuration, ModelHeader, Selection, TrainingData
from autoseg.workspace import Workspace

#: Training cases below which a model has seen little.
FEW_CASES = 20

#: Cases with a label below which it has hardly been learned.
FEW_OF_A_LABEL = 5


@dataclass(frozen=True)
class InfoReport:
    """A model file: its header, its size, and what it was not shown."""

    path: Path
    header: ModelHeader
    size_bytes: int
    parameters: dict[str, int]  # by member
    limits: tuple[str, ...]  # in words
    compared: tuple[Compared, ...] = ()  # with whom it was compared, the chosen one first
    own_names: bool = False  # whether those are called as in the work folder; else their plans are numbered

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON; the path is not part of it."""
        return {
            "size_bytes": self.size_bytes,
            "parameters": self.parameters,
            "limits": list(self.limits),
            "header": self.header.model_dump(mode="json"),
        }


def info(model: Path | None, work: Workspace) -> InfoReport:
    """What a model file says of itself; without a name the bundle of the work folder. Raises ModelError."""
    path = model or work.model
    if model is None and not path.exists():
        raise ModelError(
            "no model was selected in this work folder",
            where=work.root,
            remedy="Run `autoseg select` first, or name a model file: autoseg info MODEL.",
        )
    if path.is_dir():
        path = path / "model.safetensors"
    header = read_header(path)
    told = _named_in(work, path)
    compared = told or (() if header.card is None else header.card.compared)
    size, parameters = path.stat().st_size, count_parameters(path)
    return InfoReport(path, header, size, parameters, tuple(limits(header)), compared, bool(told))


def _named_in(work: Workspace, path: Path) -> tuple[Compared, ...]:
    """What the file was compared with, by the names of the work folder's plans, which stay out of the file itself.

    Nothing where the work folder's selection is of another file, or cannot be read.
    """
    try:
        known = read_record(work.selection, Selection) if work.selection.exists() else None
        return known.compared if known is not None and known.bundle == file_hash(path, DIGITS) else ()
    except (AutosegError, OSError):
        return ()


def configurations(header: ModelHeader) -> dict[str, tuple[Configuration, int]]:
    """The configurations of a model by name, and how many networks it has of each."""
    counts = Counter(member.configuration.name for member in header.members)
    found = {member.configuration.name: member.configuration for member in header.members}
    return {name: (configuration, counts[name]) for name, configuration in found.items()}


# ---------------------------------------------------------------------------------------------------------- limits


def limits(header: ModelHeader) -> list[str]:
    """What the model was not shown, and what its figures do not tell, in words."""
    seen = header.fingerprint
    return [*_of_the_data(header, seen), *_of_the_labels(header, seen), *_of_the_figures(header)]


def _of_the_data(header: ModelHeader, seen: TrainingData) -> list[str]:
    told = []
    if not seen.cases:
        told.append("The file does not tell what it was trained on.")
    elif seen.cases < FEW_CASES:
        told.append(f"Its dataset has {seen.cases} cases only.")
    if seen.spacing_min is not None and seen.spacing_max is not None:
        told.append(f"It has seen no voxels outside {ranged(seen.spacing_min, seen.spacing_max)} mm (Z × Y × X).")
    if seen.extent_min is not None and seen.extent_max is not None:
        extent = ranged(seen.extent_min, seen.extent_max, 0)
        told.append(f"It has seen no field of view outside {extent} mm (Z × Y × X).")
    for name, channel in zip(header.channels, seen.channels, strict=False):
        span = f"{min(channel.low):.4g} to {max(channel.high):.4g}"
        told.append(f"Of {name} it has seen intensities from {span}, 1 % of the voxels at either end aside.")
    stored = {member.configuration.preparation.orientation for member in header.members} == {"stored"}
    if seen.orientations == ("flat",):
        told.append("It has seen 2D images only.")
    elif stored:
        which = f" ({', '.join(seen.orientations)})" if seen.orientations else ""
        told.append(f"It sees axes as they are stored, and has seen no other orientation than that in training{which}.")
    if header.channel_dropout == 0 and len(header.channels) > 1:
        told.append(f"It needs all {len(header.channels)} channels.")
    return told


def _of_the_labels(header: ModelHeader, seen: TrainingData) -> list[str]:
    told = []
    for name in header.labels.classes:
        known = seen.labels.get(name)
        if known is None:
            continue
        if known.cases == 0:
            told.append(f"No training case had {name}.")
            continue
        few = f" in {known.cases} cases only" if known.cases < FEW_OF_A_LABEL else ""
        told.append(f"Of {name} it has seen {known.volume_ml[0]:.3g} to {known.volume_ml[2]:.3g} ml{few}.")
    return told


def _of_the_figures(header: ModelHeader) -> list[str]:
    card, told = header.card, []
    if card is None:
        told.append("The file holds no scores; `autoseg select` measures a model and writes them into its file.")
    else:
        told.append(
            "Its scores are of images of the training set's kind; the model was chosen by them, which makes them a "
            "little too good."
        )
        if card.folds > 1:
            told.append(
                f"Each case was scored by the networks of one fold; the file averages {card.folds} folds, which is "
                "usually a little better."
            )
    if header.ended_early:
        told.append(f"Its training could have gone on: it {header.ended_early}.")
    return told


def ranged(low: Sequence[float], high: Sequence[float], digits: int = 2) -> str:
    """Ranges of three axes: "0.80-1.20 × 0.70-0.70 × 0.70-0.70", equal ends once."""
    parts = [
        f"{one:.{digits}f}" if round(one, digits) == round(other, digits) else f"{one:.{digits}f}-{other:.{digits}f}"
        for one, other in zip(low, high, strict=True)
    ]
    return " × ".join(parts)
