from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.report.patches import PatchRow, draw_patches, shown_slice


@pytest.mark.parametrize("shape", [(6, 20, 30), (20, 30)])
def test_a_sheet_shows_every_sample_and_version(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.int16)
    labels[..., 5:15, 10:20] = 1
    rows = [
        PatchRow("case", [rng.standard_normal((2, *shape)).astype(np.float32)] * versions, [labels] * versions)
        for versions in (4, 4, 4)
    ]
    path = tmp_path / "sheet.png"
    draw_patches(path, "title", rows, 1, {"organ": (1,), "absent": (2,)})
    with Image.open(path) as sheet:
        width, height = sheet.size
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert width > 700
    assert height > 300
    orange = (np.abs(pixels - (0xE6, 0x9F, 0x00)).sum(2) < 60).sum()
    assert orange > 12 * 50  # the outline, twelve times


def test_the_slice_with_most_labels_is_shown() -> None:
    labels = np.zeros((7, 4, 4), np.int16)
    assert shown_slice(labels) == 3
    labels[5, 1:3] = 2
    labels[1, 0, 0] = 1
    assert shown_slice(labels) == 5
