"""How much memory a case takes, known from its header before it is read, and in which mode it fits. Arithmetic only.

Bytes are upper bounds of what processes hold for themselves (anonymous and shared memory); mapped files do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.arrays.crop import IN_PLACE_SHARE
from autoseg.arrays.resample_scores_torch import CHUNK_BYTES, CHUNK_VOXELS
from autoseg.errors import PredictionError
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.preparing import ExpectedGrid, expected_grid, expected_shape
from autoseg.inference.rows import by_rows, swapped
from autoseg.inference.scores import batch_size, summed_channels
from autoseg.inference.tile_grid import tile_grid
from autoseg.inference.window_memory import patch_bytes, sums_bytes
from autoseg.inference.window_sums import SLAB_BYTES
from autoseg.records import Configuration, Geometry, PredictLimits, PredictSettings, Preparation

#: Bytes of a process that reads and prepares, whatever the case: the program and its libraries (measured: 40 MB).
READER_BYTES = 60_000_000

#: Bytes that the program's own pieces may grow by beside what is counted: freed blocks, threads, kernels (measured).
SLACK_BYTES = 150_000_000

#: Bytes of the numbers that tell where a point between labels lies and comes from.
_POINT_BYTES = 64

#: Bytes a voxel that it takes to find objects in a mask, if all of them are in touch (`arrays.objects`).
OBJECTS_BYTES = 44

#: Share of the free memory that is taken where nobody says how much may be.
FREE_SHARE = 0.9


@dataclass(frozen=True)
class Mode:
    """How little memory the prediction of a case is to take. It decides time, not the mask (but for rounding)."""

    batch_size: int | None = None  # patches that go through the network together at most; None: as many as is best
    image_on_disk: bool = False
    sums_on_disk: bool = False


#: From the quickest to the leanest.
MODES = (Mode(), Mode(1), Mode(1, image_on_disk=True), Mode(1, image_on_disk=True, sums_on_disk=True))


@dataclass(frozen=True)
class CaseMemory:
    """Bytes of main memory that one case takes, stage by stage."""

    grids: str  # the file's and the network's, in words
    reading: int  # until the image is prepared, that included
    images: int  # prepared
    sums: int  # of the sliding window
    patch: int  # one patch on its way through the network
    batch: int  # patches that go through it together
    export: int  # scores that become labels
    mask: int  # being made
    writing: int  # the mask, until it is written

    def network(self, mode: Mode) -> int:
        """What is held while the network runs."""
        images = 0 if mode.image_on_disk else self.images
        sums = 0 if mode.sums_on_disk else self.sums
        return images + sums + self.patch * (mode.batch_size or self.batch) + self.export + self.mask

    @property
    def beside_another(self) -> int:
        """The most while another case of this size is read and one is written."""
        return self.network(MODES[0]) + self.reading + self.writing

    def alone(self, mode: Mode) -> int:
        """The most at any one time, if no other case is worked on."""
        return max(self.reading, self.network(mode), self.writing)


#: A case whose header cannot be read.
UNKNOWN = CaseMemory(grids="the image", reading=0, images=0, sums=0, patch=0, batch=1, export=0, mask=0, writing=0)


@dataclass(frozen=True)
class Budget:
    """The memory that a prediction may take."""

    most: int  # bytes, all processes together
    program: int  # taken before any case
    strict: bool  # whether somebody named it

    def fits(self, *parts: int) -> bool:
        """Whether there is room for all of them at once."""
        return self.program + sum(parts) <= self.most

    def mode(self, case: CaseMemory) -> Mode:
        """The quickest mode in which the case fits, if nothing else is worked on.

        Raises PredictionError, with both grids and the least that is needed, where none does and somebody named the
        budget. The figures are upper bounds, so that else the leanest mode is worth trying.
        """
        for mode in MODES:
            if self.fits(case.alone(mode)):
                return mode
        if not self.strict:
            return MODES[-1]
        least = self.program + case.alone(MODES[-1])
        raise PredictionError(
            f"{case.grids}, takes {gigabytes(least)} of memory at least, and --max-ram allows {gigabytes(self.most)}",
            remedy="Allow more, or crop the image; if the grids look wrong, correct the voxel size in its header.",
        )


def gigabytes(count: float) -> str:
    """Bytes in words, rounded up so that the figure suffices."""
    return f"{math.ceil(count / 1e7) / 100:.2f} GB"


def budget(limits: PredictLimits, own: int, free: int, workers: int) -> Budget:
    """The budget of a process that has taken `own` bytes, where `free` are left on the machine."""
    program = own + workers * READER_BYTES + SLACK_BYTES
    if limits.max_ram_bytes is not None:
        return Budget(limits.max_ram_bytes, program, strict=True)
    return Budget(own + int(FREE_SHARE * free), program, strict=False)


def case_memory(
    model: LoadedModel, geometry: Geometry, settings: PredictSettings, decoded: int | None = None
) -> CaseMemory:
    """What a case of this geometry takes; the model is `narrowed` to the settings.

    `decoded` are the bytes that its numbers take while it is read (`dataset.readers.decoded_bytes`).
    """
    shape_of = {id(group): expected_shape(geometry, group.configuration.preparation) for group in model.preparing}
    own = _different([group.configuration.preparation for group in model.preparing])
    shapes = [expected_shape(geometry, preparation) for preparation in own]
    stored, channels = math.prod(geometry.shape), len(model.header.channels)
    on_cpu = model.device.type == "cpu"
    width = 1 if model.labels.heads <= 256 else 4
    images = sum(4 * channels * math.prod(shape) for shape in shapes)
    sums = patch = 0
    rows = by_rows(model, [shape_of[id(group)] for group in model.groups])
    for group in model.preparing:
        shape = swapped(shape_of[id(group)]) if rows else shape_of[id(group)]
        grid = tile_grid(shape, group.configuration.patch_size, settings.step, flat_axis=1 if rows else 0)
        if grid.padded_shape != shape:
            images += 4 * channels * math.prod(grid.padded_shape)
        if group.first_stage is not None:  # the labels of the first stage are a further channel, in a new array
            images += 4 * (channels + 1) * math.prod(shape)
        summed = summed_channels(group, model.labels.heads)
        sums += sums_bytes(grid, summed, half=group.half_sums)
        if on_cpu:
            inputs = channels + (len(model.labels.values) if group.first_stage is not None else 0)
            patch = max(patch, patch_bytes(group.configuration, inputs, summed, model.precision))
    first = model.groups[0]
    steps = 7 * stored if settings.post_process and model.header.post_processing else 0
    return CaseMemory(
        grids=_grids(geometry, first.configuration, shape_of[id(first)]),
        reading=sum(reading_bytes(expected_grid(geometry, one), one, decoded) for one in own),
        images=images,
        sums=sums,
        patch=patch,
        batch=max(batch_size(model.device, group.configuration.patch_size) for group in model.preparing),
        export=_export_bytes(model, geometry, max(shapes, key=math.prod), rows=rows),
        mask=3 * width * stored + steps,
        writing=(4 * width + (OBJECTS_BYTES if model.labels.things else 0)) * stored,
    )


def reading_bytes(grid: ExpectedGrid, preparation: Preparation, decoded: int | None) -> int:
    """Until an image of this grid is prepared.

    First the file's numbers beside the image's, then the image, its crop (which stays where it is, if it is most of
    an image that is not turned), masks where the normalization asks for them, and what one channel needs more while it
    is normalized, or all while they are resampled.
    """
    stored, prepared = math.prod(grid.own), math.prod(grid.prepared)
    channels = len(preparation.normalization)
    masked = any(preparation.use_mask_for_normalization)
    image = 4 * channels * stored
    crop = image if grid.turned else math.floor(IN_PLACE_SHARE * image)
    mask = stored * (2 if masked else 1)
    finding_the_box = stored * (7 if masked else 2)
    normalizing = stored * (12 if masked else 4)
    resampling = 0
    if grid.resampled:
        kept, making = _operator_bytes(grid)
        resampling = max(making, kept + 4 * max(stored, prepared) + 4 * channels * prepared)
    return image + max(
        8 * channels * stored if decoded is None else decoded,
        finding_the_box,
        crop + mask + max(normalizing, resampling),
    )


def _operator_bytes(grid: ExpectedGrid) -> tuple[int, int]:
    """Matrices in double precision that interpolate along the axes: when all are made, and at most before.

    They are nothing beside a volume, but of a picture of 10,000 pixels a side one has 0.8 GB. While one is made there
    are its coefficients twice, and it twice (`arrays.resample`).
    """
    pairs = [(own, new) for own, new in zip(grid.own, grid.prepared, strict=True) if own != new]
    kept = sum(8 * own * new for own, new in pairs)
    return kept, kept + max(8 * (2 * own * own + own * new) for own, new in pairs)


def _export_bytes(model: LoadedModel, geometry: Geometry, prepared: Sequence[int], *, rows: bool) -> int:
    """Scores that leave the window and become labels (`arrays.resample_winners_torch`), if every cell is at a boundary.

    Source planes are held as rows. Of the output planes that are made together one axis after the other is
    interpolated, between two neighbours, from what the axis before left.
    """
    heads, groups = model.labels.heads, len(model.groups)
    depth, height, width = sorted(geometry.shape)  # the largest planes that there could be
    if rows:
        prepared, (depth, height) = (prepared[1], prepared[0], prepared[2]), (height, depth)
    plane, between, made = (
        4 * heads * size for size in (prepared[1] * prepared[2], height * prepared[2], height * width)
    )
    planes = max(geometry.shape)
    together = max(1, min(CHUNK_VOXELS // (height * width), CHUNK_BYTES // made, planes))
    slab = max(min(SLAB_BYTES, plane * prepared[0]), plane)
    held = min(prepared[0], math.ceil(together * max(prepared) / depth) + 2) * plane + slab
    mixed = max(2 * plane, plane + 2 * between, between) * together + min(CHUNK_BYTES // 2, 4 * made * together)
    places = _POINT_BYTES * together * max(prepared[1] * prepared[2], height * width)
    own = 3 * slab + max(2 * held, held + mixed + places)
    if groups > 1 and not _crop_alike([group.configuration.preparation for group in model.groups]):
        # whole probabilities, averaged in the file's grid
        return groups * own + 2 * 4 * heads * math.prod(geometry.shape)
    return groups * own


def _different(preparations: Sequence[Preparation]) -> list[Preparation]:
    """Each preparation once."""
    return [one for index, one in enumerate(preparations) if one not in preparations[:index]]


def _crop_alike(preparations: Sequence[Preparation]) -> bool:
    first = preparations[0]
    return all((other.orientation, other.axis_order) == (first.orientation, first.axis_order) for other in preparations)


def _grids(geometry: Geometry, configuration: Configuration, shape: Sequence[int]) -> str:
    """Both grids of a case in words."""
    spacing = configuration.preparation.spacing
    edges = "own" if None in spacing else "x".join(f"{edge:.3g}" for edge in spacing if edge is not None)
    source = f"{'x'.join(map(str, geometry.shape))} voxels ({math.prod(geometry.shape) / 1e6:.3g} million)"
    return (
        f"the image of {source} of {'x'.join(f'{edge:.3g}' for edge in geometry.spacing)} mm, in the network's grid "
        f"{'x'.join(map(str, shape))} voxels ({math.prod(shape) / 1e6:.3g} million) of {edges} mm"
    )
