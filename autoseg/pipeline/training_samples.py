"""Samples of a training as pictures for its page: as cropped, and as augmentation makes them."""

from __future__ import annotations

import math

import numpy as np

from autoseg.errors import AutosegError
from autoseg.files import read_record
from autoseg.pipeline.looks import turn_of
from autoseg.pipeline.plans import read_plan
from autoseg.pipeline.preview import augmented_rows
from autoseg.preprocessing.store import StoredCase, open_case
from autoseg.records import Configuration, Dataset, TrainSettings
from autoseg.report.page import Names, Picture, Pictures
from autoseg.report.patches import PatchRow
from autoseg.report.pictures import colours_of, patch_strip, reading
from autoseg.workspace import Run, Workspace

#: Cases that are drawn from, samples, and augmented versions of each.
CASES, ROWS, VERSIONS = 4, 3, 4

#: Patches of more voxels take long to augment, and have no samples on the page.
_MOST_VOXELS = 3_000_000


def training_samples(work: Workspace, run: Run, settings: TrainSettings, names: Names) -> Pictures | None:
    """A picture per sample of the first channel; None where there is nothing to draw from, or it would take long."""
    plan = read_plan(work, run.plan)
    entry = plan.configuration(run.configuration)
    if entry.previous_stage is not None or math.prod(entry.patch_size) > _MOST_VOXELS:
        return None
    cases = _prepared(work, entry, settings.seed)
    if not cases:
        return None
    turns = {case.case: turn_of(case.placement) for case in cases}
    rows = augmented_rows(plan, entry, settings, cases, turns, rows=ROWS, versions=VERSIONS)
    members = plan.labels.foreground
    pictures = tuple(Picture(_strip(row, members), names(row.title), sides=row.turn is not None) for row in rows)
    legend = tuple((colour, name) for name, colour in colours_of(tuple(members)).items())[:14]
    caption = f"Left as cropped, then {VERSIONS} augmented versions ({settings.augmentation}); {plan.channels[0]}."
    return Pictures(pictures, f"{caption} {reading(pictures)}".rstrip(), legend, width=700)


def _prepared(work: Workspace, entry: Configuration, seed: int) -> list[StoredCase]:
    """A few cases of the store, those that are there."""
    labelled = [case.id for case in read_record(work.dataset, Dataset).cases if case.labelled]
    found: list[StoredCase] = []
    for place in np.random.default_rng(seed).permutation(len(labelled)):
        try:
            found.append(open_case(work.prepared_folder(entry.preparation), labelled[place]))
        except AutosegError:
            continue
        if len(found) == CASES:
            break
    return found


def _strip(row: PatchRow, members: dict[str, tuple[int, ...]]) -> str:
    drawn = [row.drawn(version, 0) for version in range(len(row.images))]
    images, labels = [image for image, _ in drawn], [map_ for _, map_ in drawn]
    return patch_strip(images, labels, row.drawn_aspect, None if row.turn is None else row.turn.axis, members)
