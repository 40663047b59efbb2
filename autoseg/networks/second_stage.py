"""What the second stage of a cascade sees: the image, and a map per label of what the first stage found."""

from __future__ import annotations

import torch
from torch import Tensor


def with_one_hot(images: Tensor, labels: int) -> Tensor:
    """The network's input (B, C + labels, *space) of images (B, C + 1, *space).

    The last channel of the images is the first stage's label map, as numbers 0 (background) to `labels`; it becomes one
    map of zeros and ones per label, without the background. One map per value also where labels are regions, as
    nnU-Net has it. Cropping, mirroring and padding with zeros before this give the same as after it.
    """
    values = torch.arange(1, labels + 1, device=images.device, dtype=images.dtype)
    maps = images[:, -1:] == values.view(1, -1, *(1,) * (images.ndim - 2))
    return torch.cat([images[:, :-1], maps.to(images.dtype)], dim=1)
