from __future__ import annotations

import numpy as np
import pytest
import torch

from autoseg.training.intensity import draw_dropped, drop_channels


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(number) for number in range(count)]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_channel_is_always_left(channels: int) -> None:
    drawn = [draw_dropped(generator, channels, 0.9) for generator in generators(300)]
    assert max(map(len, drawn)) == channels - 1
    left = {channel for dropped in drawn for channel in set(range(channels)) - set(dropped)}
    assert left == set(range(channels))  # any one may be the last


def test_each_channel_is_dropped_as_often_as_asked() -> None:
    drawn = [draw_dropped(generator, 4, 0.25) for generator in generators(2000)]
    for channel in range(4):
        assert abs(np.mean([channel in dropped for dropped in drawn]) - 0.25) < 0.03


def test_dropped_channels_are_zeros_and_a_sample_is_the_same_in_any_batch() -> None:
    images = torch.randn(6, 3, 4, 4, 4)
    batch = images.clone()
    drop_channels(batch, generators(6), 0.5)
    dropped = (batch == 0).flatten(2).all(2)
    assert dropped.any()
    assert not dropped.all(1).any()
    assert torch.equal(batch[~dropped], images[~dropped])
    for number in range(6):
        alone = images[number : number + 1].clone()
        drop_channels(alone, [np.random.default_rng(number)], 0.5)
        assert torch.equal(alone[0], batch[number])


def test_only_image_channels_are_dropped_and_nothing_is_drawn_without_it() -> None:
    images = torch.ones(50, 3, 2, 2)
    drop_channels(images, generators(50), 0.9, channels=2)
    assert (images[:, 2] == 1).all()
    assert (images[:, :2] == 0).any()
    generator = np.random.default_rng(0)
    drop_channels(images, [generator] * 50, 0.0)
    assert generator.random() == np.random.default_rng(0).random()
