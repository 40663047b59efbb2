from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.planning.topology import derive_topology, in_classes, stages_of


def test_recorded_anisotropic_topology() -> None:
    topology = derive_topology((10.0, 1.5625, 1.5625), (9, 256, 216))
    assert topology.patch_size == (10, 256, 224)
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert topology.kernel_sizes == ((1, 3, 3), (1, 3, 3), *(((3, 3, 3),) * 4))


def test_a_single_short_axis_is_not_halved_alone() -> None:
    assert derive_topology((1.0, 1.0), (11, 5)).stages == 1
    assert derive_topology((1.0, 1.0), (12, 5)).stages == 2


def test_half_voxels_are_padded_up() -> None:
    assert derive_topology((1.0, 1.0, 1.0), (36.5, 50, 35)).patch_size == (40, 56, 40)
    assert derive_topology((1.0, 1.0), (5.5, 5)).patch_size == (6, 5)


axes = st.integers(2, 3).flatmap(
    lambda count: st.tuples(
        st.lists(st.floats(0.1, 20), min_size=count, max_size=count),
        st.lists(st.integers(1, 600), min_size=count, max_size=count),
    )
)


@given(axes)
@settings(max_examples=200, deadline=None)
def test_stages_fit_the_patch(spacing_and_size: tuple[list[float], list[int]]) -> None:
    spacing, size = spacing_and_size
    topology = derive_topology(spacing, size)
    assert topology.strides[0] == (1,) * len(size)
    assert topology.kernel_sizes[-1] == (3,) * len(size)
    assert len(topology.kernel_sizes) == topology.stages
    for axis, length in enumerate(topology.patch_size):
        divisor = math.prod(stride[axis] for stride in topology.strides)
        assert divisor == topology.divisor[axis]
        assert length % divisor == 0
        assert size[axis] <= length < size[axis] + divisor
        assert length // divisor >= min(4, size[axis])
    for before, after in zip(topology.kernel_sizes, topology.kernel_sizes[1:], strict=False):
        assert all(wide >= narrow for narrow, wide in zip(before, after, strict=True))


@given(axes, st.floats(0.3, 3))
@settings(max_examples=200, deadline=None)
def test_classes_of_spacings_decide_alike(spacing_and_size: tuple[list[float], list[int]], factor: float) -> None:
    spacing, size = spacing_and_size
    # powers of two apart, and a hair beside: where rounding could matter
    for close in (spacing, [spacing[0] * 2**power for power in range(len(spacing))]):
        for values in (close, [math.nextafter(close[0], 99), *close[1:]], [value * factor for value in close]):
            assert stages_of(in_classes(values), tuple(size)) == stages_of(tuple(values), tuple(size))
