from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.planning.presets import Length
from autoseg.planning.schedule import epochs, steps_per_epoch

LENGTH = Length(steps_per_epoch=(25, 250), epochs=(50, 1000), visits=200, fewest_samples=40_000)
FIXED = Length(steps_per_epoch=(250, 250), epochs=(1000, 1000))


@given(parts=st.floats(1, 1e9), batch=st.integers(2, 5000))
@settings(max_examples=100, deadline=None)
def test_bounds_hold(parts: float, batch: int) -> None:
    steps = steps_per_epoch(LENGTH, parts, batch).value
    assert 25 <= steps <= 250
    assert 50 <= epochs(LENGTH, parts, batch, steps).value <= 1000
    assert steps_per_epoch(FIXED, parts, batch).value == 250
    assert epochs(FIXED, parts, batch, 250).value == 1000


def test_one_epoch_visits_every_part_once() -> None:
    assert steps_per_epoch(LENGTH, parts=300, batch=2).value == 150
    assert epochs(LENGTH, parts=300, batch=2, steps=150).value == 200


def test_few_small_images_still_get_enough_patches() -> None:
    decision = epochs(LENGTH, parts=3, batch=2, steps=25)
    assert decision.value == 800
    assert decision.because.startswith("At least 40000 patches")
