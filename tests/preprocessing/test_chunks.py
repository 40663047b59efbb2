from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.preprocessing.chunks import BLOCK_BYTES, CHUNK_BYTES, chunks_and_blocks

sizes = st.integers(1, 700)


@settings(deadline=None, max_examples=200)
@given(shape=st.tuples(sizes, sizes, sizes), patch=st.tuples(sizes, sizes, sizes), itemsize=st.sampled_from([2, 4]))
def test_sizes_fit(shape, patch, itemsize):
    found = chunks_and_blocks((2, *shape), patch, itemsize)
    chunk, block = found["chunks"], found["blocks"]
    assert chunk[0] == block[0] == 1
    assert all(1 <= b <= c <= size for b, c, size in zip(block[1:], chunk[1:], shape, strict=True))
    assert np.prod(block) * itemsize <= BLOCK_BYTES
    assert np.prod(chunk) * itemsize <= max(CHUNK_BYTES, BLOCK_BYTES)


@pytest.mark.parametrize(
    ("shape", "patch", "itemsize", "block"),
    [
        ((432, 512, 512), (128, 128, 128), 4, (32, 32, 32)),
        ((432, 512, 512), (128, 128, 128), 2, (64, 32, 32)),
        ((432, 512, 512), (1, 512, 512), 4, (1, 256, 128)),
    ],
)
def test_blocks_are_as_recorded_for_nnunet(shape, patch, itemsize, block):
    assert chunks_and_blocks(shape, patch, itemsize)["blocks"] == block


@pytest.mark.parametrize(
    ("patch", "itemsize", "chunk"),
    [((128, 128, 128), 4, (96, 128, 128)), ((128, 128, 128), 2, (128, 192, 128)), ((1, 512, 512), 4, (1, 512, 512))],
)
def test_chunks_are_as_recorded_for_nnunet(patch, itemsize, chunk):
    assert chunks_and_blocks((432, 512, 512), patch, itemsize)["chunks"] == chunk


def test_a_label_map_has_no_channel_axis():
    found = chunks_and_blocks((36, 50, 35), (40, 56, 40), 2)
    assert found == {"chunks": (36, 50, 35), "blocks": (36, 50, 35)}


def test_slices_of_2d_patches_share_a_chunk_but_no_block():
    found = chunks_and_blocks((1, 100, 128, 128), (1, 128, 128), 4)
    assert found == {"chunks": (1, 16, 128, 128), "blocks": (1, 1, 128, 128)}
    assert chunks_and_blocks((5, 128, 128), (1, 128, 128), 2)["chunks"] == (5, 128, 128)
