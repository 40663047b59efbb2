"""Sizes of chunks and blocks of a stored array, so that reading a patch unpacks little beside it."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.records import Shape

#: A block is unpacked as a whole and should stay in a core's own cache.
BLOCK_BYTES = 128 * 1024

#: A chunk is read from disk as a whole and should stay in the shared cache.
CHUNK_BYTES = 6 * 1024 * 1024

#: Slices of 2D patches share a chunk up to this size: writing costs by the chunk, and reading one slice unpacks its
#: blocks alone (measured: half the time of writing a chunk per slice, reading as fast).
SLICES_BYTES = 1024 * 1024

#: Chunks reach this far beyond the patch: what augmentation crops is larger than what the network sees.
MARGIN = 1.5


def chunks_and_blocks(shape: Sequence[int], patch_hint: Shape, itemsize: int) -> dict[str, tuple[int, ...]]:
    """`chunks` and `blocks` (the keys of the answer) for an array ([C,] Z, Y, X) that is read in such patches.

    A block begins as powers of two around the patch and loses, step by step, half of the axis that is largest for the
    patch, until it fits BLOCK_BYTES; a chunk is made of whole blocks and grows along the axis that covers least of the
    patch, up to CHUNK_BYTES (nnU-Net's scheme, but for the slices of 2D patches). Channels lie in chunks of their own.
    """
    space = [int(size) for size in shape[-3:]]
    wanted = [
        min(size, max(1, int(MARGIN * patch)) if patch > 1 else 1)
        for size, patch in zip(space, patch_hint, strict=True)
    ]
    block = [min(_power_of_two_from(patch), size) for size, patch in zip(space, patch_hint, strict=True)]
    while _product(block) * itemsize > BLOCK_BYTES:
        axis = max(range(3), key=lambda a: (block[a] / wanted[a] if block[a] > 1 else 0.0, a))
        block[axis] = _power_of_two_below(block[axis])
    chunk = list(block)
    growing = {axis for axis in range(3) if chunk[axis] < wanted[axis]}
    while growing:
        axis = min(growing, key=lambda a: (chunk[a] / wanted[a], -space[a], a))
        larger = list(chunk)
        larger[axis] = min(chunk[axis] + block[axis], space[axis], wanted[axis])
        if _product(larger) * itemsize <= CHUNK_BYTES:
            chunk = larger
        if chunk != larger or chunk[axis] >= wanted[axis]:
            growing.discard(axis)  # no room, or enough of it
    if patch_hint[0] == 1:
        chunk[0] = min(space[0], max(chunk[0], SLICES_BYTES // (_product(chunk[1:]) * itemsize)))
    lead = (1,) * (len(shape) - 3)
    return {"chunks": (*lead, *chunk), "blocks": (*lead, *block)}


def _power_of_two_from(size: int) -> int:
    return 1 << max(0, size - 1).bit_length()


def _power_of_two_below(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
