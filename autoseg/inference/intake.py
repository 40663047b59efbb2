"""Images as they come: what no network can use is put right, or found to hold nothing."""

from __future__ import annotations

import numpy as np

from autoseg.records import Volume


def mended(volume: Volume) -> Volume:
    """The volume with a number in every voxel, and notes on what was replaced and on channels without content.

    A voxel that is NaN or infinite gets the smallest value of its channel, which is the background of most images.
    """
    image, notes = volume.image, list(volume.notes)
    for number, channel in enumerate(image):
        which = f"channel {number}: " if len(image) > 1 else ""
        low, high = float(channel.min()), float(channel.max())  # NaN wherever there is one
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = np.isfinite(channel)
            count = int(channel.size - finite.sum())
            low = float(channel[finite].min()) if finite.any() else 0.0
            if image is volume.image:
                image = image.copy()
            image[number] = np.where(finite, channel, np.float32(low))
            notes.append(
                f"{which}{count} voxels are not numbers (NaN or infinite), replaced by its smallest value {low:g}"
            )
            high = float(image[number].max())
        if low == high and len(image) > 1:
            notes.append(f"{which}it has the value {low:g} everywhere")
    if is_blank(Volume(image, volume.geometry)):
        notes.append(f"it has the value {float(image.flat[0]):g} everywhere: nothing can be found in it")
    return volume if len(notes) == len(volume.notes) else Volume(image, volume.geometry, tuple(notes))


def is_blank(volume: Volume) -> bool:
    """Whether every channel has one value everywhere, so that there is nothing to see."""
    return all(float(channel.min()) == float(channel.max()) for channel in volume.image)
