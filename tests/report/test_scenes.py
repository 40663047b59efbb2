"""Sheets of cases in three planes: the patient's right on the left, and pictures the way they are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from autoseg.report.preview import draw_scenes
from autoseg.report.slices import Look


def sheet(path: Path, look: Look) -> np.ndarray:
    """Brightness of the drawn sheet."""
    draw_scenes(path, [look], {"organ": 1})
    return np.asarray(Image.open(path).convert("L")).astype(int)


def test_what_lies_on_the_right_is_drawn_on_the_left(tmp_path: Path) -> None:
    image = np.zeros((20, 20, 20), np.float32)
    image[..., 10:] = 1  # bright on the patient's right
    drawn = sheet(tmp_path / "a.png", Look("a", image, np.zeros(image.shape, np.uint8), (1.0, 1.0, 1.0)))
    tall, wide = drawn.shape
    axial = drawn[tall * 3 // 10 : tall * 6 // 10, : wide // 3]
    dark = np.flatnonzero((axial < 60).mean(axis=0) > 0.9)
    assert len(dark) > wide / 12
    assert dark.mean() > wide / 6


def test_a_picture_is_one_panel_the_way_round_that_it_is_stored(tmp_path: Path) -> None:
    image = np.zeros((1, 20, 30), np.float32)
    image[0, :10] = 1  # bright in its upper half
    mask = np.zeros(image.shape, np.uint8)
    mask[0, 15:18, 3:6] = 1
    drawn = sheet(tmp_path / "a.png", Look("a", image, mask, (999.0, 1.0, 1.0), sides=False))
    tall, wide = drawn.shape
    assert wide < 700  # a volume's sheet is twice as wide
    dark = np.flatnonzero((drawn[:, wide // 3 : wide * 2 // 3] < 60).mean(axis=1) > 0.9)
    assert len(dark) > tall / 8
    assert dark.mean() > tall * 0.45
    orange = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    marked = np.argwhere((orange[..., 0] - orange[..., 2] > 60) & (np.arange(tall)[:, None] < tall * 0.8))
    assert marked[:, 1].mean() < wide / 2  # the label on the left stays on the left
