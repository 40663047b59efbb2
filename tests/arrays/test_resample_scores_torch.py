from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpolated_scores import Shape, interpolated

from autoseg.arrays import resample_scores_torch
from autoseg.arrays.resample_scores_torch import grid_taps, scores_on_grid

sizes = st.integers(1, 9)
orders = st.sampled_from([0, 1])


@settings(deadline=None, max_examples=30)
@given(
    shape=st.tuples(sizes, sizes, sizes),
    new=st.tuples(st.integers(1, 16), st.integers(1, 16), st.integers(1, 16)),
    order=st.tuples(orders, orders, orders),
    slabs=st.integers(1, 4),
    chunk=st.sampled_from([1, 100, 1 << 20]),
)
def test_scores_on_another_grid(
    shape: Shape, new: Shape, order: tuple[Literal[0, 1], ...], slabs: int, chunk: int
) -> None:
    scores = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample_scores_torch, "CHUNK_VOXELS", chunk)
        parts = np.array_split(scores, min(slabs, shape[0]), axis=1)
        made = list(scores_on_grid(parts, grid_taps(shape, new, order)))
    assert [first for first, _ in made] == list(np.cumsum([0, *(part.shape[1] for _, part in made[:-1])]))
    found = torch.cat([part for _, part in made], dim=1).numpy()
    np.testing.assert_allclose(found, interpolated(scores, new, order), rtol=1e-5, atol=1e-5)


def test_only_the_planes_that_are_waited_for_are_held() -> None:
    """Forty planes come one by one; output follows at once, so that nothing piles up."""
    came = 0

    def planes() -> Iterator[torch.Tensor]:
        nonlocal came
        for _ in range(40):
            came += 1
            yield torch.rand(3, 1, 64, 64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample_scores_torch, "CHUNK_VOXELS", 1)
        for first, _ in scores_on_grid(planes(), grid_taps((40, 64, 64), (80, 64, 64), (1, 1, 1))):
            assert came <= first // 2 + 2
