from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from autoseg.training import interpolation
from autoseg.training.interpolation import sample_images, sample_labels


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _by_indicators(labels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Each label's indicator interpolated linearly, the largest taken; the smallest label at a tie."""
    padded = functional.pad(labels, (2, 2) * (labels.ndim - 2), value=-1)
    values = torch.arange(-1, int(labels.max()) + 1)
    indicators = (padded[:, 0, None] == values.view(1, -1, *(1,) * (labels.ndim - 2))).float()
    size = torch.tensor(padded.shape[2:]).view(1, -1, *(1,) * (positions.ndim - 2))
    grid = ((2 * (positions + 2) + 1) / size - 1).flip(1).movedim(1, -1)
    scores = functional.grid_sample(indicators, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return values[scores.argmax(1)][:, None].to(labels.dtype)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 7), min_size=2, max_size=3), st.integers(1, 5), st.integers(0, 999))
def test_labels_equal_the_arg_max_of_interpolated_indicators(size: list[int], classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes + 1, (2, 1, *size), generator=generator).short()
    # random places, some well outside: no ties there
    scale = torch.tensor(size).view(1, -1, *(1,) * len(size))
    positions = torch.rand(2, len(size), *(5,) * len(size), generator=generator) * (scale + 6) - 3.5
    assert torch.equal(sample_labels(labels, positions), _by_indicators(labels, positions))


def test_however_many_voxels_are_looked_at_together_labels_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (2, 2, 6, 5, 4), generator=generator).short()
    positions = torch.rand(2, 3, 4, 4, 4, generator=generator) * 8 - 2
    wanted = sample_labels(labels, positions)
    monkeypatch.setattr(interpolation, "MIXED_AT_A_TIME", 7)
    assert torch.equal(sample_labels(labels, positions), wanted)


def test_ties_go_to_the_nearest_voxel_and_else_to_the_smallest_label() -> None:
    labels = torch.tensor([[3, 1], [2, 2]], dtype=torch.int16)[None, None]
    positions = torch.tensor([[0.0, 0.5], [0.5, 0.0], [0.5, 0.5], [0.25, 0.5]]).T[None, :, :, None]
    # halves go up: 1 is nearest of (3, 1); 2 of (3, 2); at the centre 2 has two corners; a quarter down 3 and 1 tie
    # with weight .375 against .25 for 2, and 1 is nearest
    assert sample_labels(labels, positions).flatten().tolist() == [1, 2, 2, 1]


def test_outside_is_zero_and_labelled_outside() -> None:
    positions = torch.full((1, 3, 2, 2, 2), -4.0)
    assert not sample_images(torch.ones(1, 2, 3, 3, 3), positions).any()
    assert bool((sample_labels(torch.ones(1, 1, 3, 3, 3, dtype=torch.int16), positions) == -1).all())
