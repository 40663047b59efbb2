from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoseg.report.patches import PatchRow, draw_patches, shown_slice
from autoseg.report.slices import Turn


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


def test_a_patch_is_turned_before_it_is_drawn() -> None:
    image = np.arange(24, dtype=np.float32).reshape(1, 4, 6)
    labels = np.zeros((4, 6), np.int16)
    turned = PatchRow("case", [image], [labels], 2.0, Turn(swap=True, backwards=(True, False), axis=2))
    np.testing.assert_array_equal(turned.drawn(0, 0)[0], image[0].T[::-1])
    assert turned.drawn_aspect == 0.5
    stored = PatchRow("case", [image], [labels], 2.0)
    np.testing.assert_array_equal(stored.drawn(0, 0)[0], image[0])
    assert stored.drawn_aspect == 2.0


def test_only_the_patch_as_cropped_has_letters(tmp_path: Path) -> None:
    image, labels = np.zeros((1, 40, 40), np.float32), np.zeros((40, 40), np.int16)
    sheets = []
    for turn in (None, Turn(swap=False, backwards=(True, True), axis=0)):
        draw_patches(tmp_path / "a.png", "t", [PatchRow("case", [image] * 2, [labels] * 2, 1.0, turn)], 0, {})
        sheets.append(np.asarray(Image.open(tmp_path / "a.png").convert("L")).astype(int))
    changed = np.flatnonzero((sheets[0] != sheets[1]).any(axis=0))
    assert len(changed)
    assert changed.max() < sheets[0].shape[1] / 2 + 20


def test_the_slice_with_most_labels_is_shown() -> None:
    labels = np.zeros((7, 4, 4), np.int16)
    assert shown_slice(labels) == 3
    labels[5, 1:3] = 2
    labels[1, 0, 0] = 1
    assert shown_slice(labels) == 5
