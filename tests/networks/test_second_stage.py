from __future__ import annotations

import torch

from autoseg.networks.second_stage import with_one_hot


def test_a_label_map_becomes_a_map_per_label() -> None:
    images = torch.randn(2, 3, 4, 5, 6)
    images[:, 2] = torch.randint(0, 3, (2, 4, 5, 6))
    found = with_one_hot(images, 2)
    assert found.shape == (2, 4, 4, 5, 6)
    assert torch.equal(found[:, :2], images[:, :2])
    assert torch.equal(found[:, 2], (images[:, 2] == 1).float())
    assert torch.equal(found[:, 3], (images[:, 2] == 2).float())
    flat = with_one_hot(images[:, :, 0], 2)
    assert torch.equal(flat, found[:, :, 0])
