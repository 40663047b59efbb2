"""A picture with two cells that touch and a vessel, as a dataset, and its objects found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autoseg.arrays.objects import find_objects
from autoseg.dataset.label_files import read_case_labels
from autoseg.records import Case, Labels

#: Two cells that touch, a vessel, and tissue around them.
IDS = np.zeros((16, 30), np.uint16)
IDS[2:10, 2:10], IDS[2:10, 10:18], IDS[11:15, 20:29] = 7, 900, 65535
KINDS = np.zeros((16, 30), np.uint8)
KINDS[0:16, 0:19] = 3
KINDS[2:10, 2:18], KINDS[11:15, 20:29] = 1, 2
KINDS[9, 2] = 3  # a voxel that the label map has otherwise

NAMES = {"background": 0, "cell": 1, "vessel": 2, "tissue": 3}


def save(root: Path, folder: str, pixels: NDArray[np.generic], name: str = "a.png") -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / folder / name)
    return root / folder / name


def dataset(root: Path, record: Mapping[str, object] | None, **folders: NDArray[np.generic]) -> Path:
    """A dataset of one picture "a", with files in folders of labels."""
    save(root, "imagesTr", (np.arange(480) % 256).astype(np.uint8).reshape(16, 30))
    for folder, pixels in folders.items():
        save(root, folder, pixels)
    if record is not None:
        (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "grey"}, **record}), encoding="utf-8")
    return root


def found_in(case: Case, labels: Labels) -> NDArray[np.uint32]:
    """The objects of a case, found again in its borders and cores."""
    label_map = read_case_labels(case, labels)
    values = label_map.labels
    members = [labels.names[name] for name in labels.things]
    foreground = np.isin(values, members)
    core = np.isin(values, [labels.names[name] for name in labels.things.values()])
    return find_objects(foreground, core, label_map.geometry.spacing)
