"""The steps around exported networks, told one by one: what `preprocessing` and `inference` do, as a list."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.arrays.components import CONNECTIVITY
from autoseg.arrays.normalize import SMALLEST_DIVISOR
from autoseg.arrays.resample import ANISOTROPY
from autoseg.arrays.tiles import SIGMA_SHARE
from autoseg.errors import ModelError
from autoseg.preprocessing.export import score_terms
from autoseg.records import BEST_PREDICTION, Configuration, Labels, ModelHeader, Preparation
from autoseg.records.exported import (
    AddFirstStage,
    AddUp,
    CropToNonzero,
    Decide,
    KeepLargestPart,
    Mirror,
    Normalize,
    Orient,
    OrientBack,
    Pad,
    Probabilities,
    Resample,
    ResampleScores,
    RunNetworks,
    Step,
    Tile,
    Transpose,
    TransposeBack,
    Uncrop,
    Unpad,
)


def group_steps(
    configuration: Configuration,
    header: ModelHeader,
    *,
    mirror_axes: Sequence[int],
    half_sums: bool,
    ends_in: str,
    after_stage: str | None = None,
) -> tuple[Step, ...]:
    """From the image of a file to what a group of networks gives, on the grid of the cropped image.

    Args:
        configuration, mirror_axes, half_sums: of the group.
        header: of the model.
        ends_in: "scores"; or "probabilities", where other groups are averaged with it; or "labels", where another
            group takes them for its input.
        after_stage: the group whose labels are further input.
    """
    preparation, labels = configuration.preparation, header.labels
    z, y, x = (1, *configuration.patch_size) if configuration.dimensions == 2 else configuration.patch_size
    steps: list[Step] = [
        Orient(to=preparation.orientation),
        Transpose(order=preparation.axis_order),
        CropToNonzero(),
        *_normalizations(preparation, header.channels),
        Resample(
            spacing=preparation.spacing,
            order=preparation.image_order,
            apart_above=ANISOTROPY,
            keep_range=preparation.image_order == 3,
        ),
        *([] if after_stage is None else [AddFirstStage(group=after_stage, labels=len(labels.values) - 1)]),
        Pad(to=(z, y, x)),
        Tile(patch=(z, y, x), largest_step=BEST_PREDICTION.step),
        *([Mirror(axes=tuple(sorted(mirror_axes)))] if mirror_axes else []),
        RunNetworks(squeeze=configuration.dimensions == 2),
        AddUp(sigma=SIGMA_SHARE, half_precision=half_sums),
        Unpad(),
        ResampleScores(
            order=1, apart_order=0 if ends_in == "labels" else preparation.slice_order, apart_above=ANISOTROPY
        ),
    ]
    if ends_in == "probabilities":
        steps.append(Probabilities(function="sigmoid" if labels.has_regions else "softmax"))
    if ends_in == "labels":
        steps.append(_decision(labels, [*range(len(labels.values))], of_probabilities=False))
    return tuple(steps)


def steps_after(header: ModelHeader, *, of_probabilities: bool) -> tuple[Step, ...]:
    """From the scores, or the averaged probabilities, on the grid of the cropped image to the mask."""
    labels = header.labels
    kept = [
        KeepLargestPart(values=_values(labels, step.label), connectivity=CONNECTIVITY)
        for step in header.post_processing
    ]
    decision = _decision(labels, labels.values, of_probabilities=of_probabilities)
    return (decision, Uncrop(), TransposeBack(), OrientBack(), *kept)


def _normalizations(preparation: Preparation, channels: Sequence[str]) -> list[Step]:
    return [_normalization(preparation, channel, name) for channel, name in enumerate(channels)]


def _normalization(preparation: Preparation, channel: int, name: str) -> Normalize:
    """One channel's normalization in numbers. Raises ModelError for one that a module added: only that knows it."""
    scheme, statistics = preparation.normalization[channel], preparation.intensities[channel]
    step = Normalize(
        channel=channel,
        name=name,
        clip=None,
        subtract=0.0,
        divide=1.0,
        smallest_divisor=SMALLEST_DIVISOR,
        nonzero_only=False,
    )
    clip = (statistics.percentile_00_5, statistics.percentile_99_5)
    known: dict[str, dict[str, object]] = {
        "CTNormalization": {"clip": clip, "subtract": statistics.mean, "divide": statistics.std},
        "ZScoreNormalization": {
            "subtract": "mean",
            "divide": "deviation",
            "nonzero_only": preparation.use_mask_for_normalization[channel],
        },
        "NoNormalization": {},
        "RescaleTo01Normalization": {"subtract": "minimum", "divide": "range"},
        "RGBTo01Normalization": {"divide": 255.0},
    }
    if scheme not in known:
        raise ModelError(
            f"its normalization {scheme!r} comes from a module, and cannot be told in numbers",
            remedy="Such a model can be used by autoseg alone.",
        )
    return step.model_copy(update=known[scheme])


def _decision(labels: Labels, values: Sequence[int], *, of_probabilities: bool) -> Decide:
    """How scores become the values; `values` stand in for `labels.values`."""
    if not labels.has_regions:
        return Decide(rule="highest", values=tuple(values))
    if labels.regions_class_order is None:
        return Decide(rule="highest_sum", values=tuple(values), sums=score_terms(labels), log_odds=of_probabilities)
    written = tuple(values[labels.values.index(value)] for value in labels.regions_class_order)
    return Decide(rule="write_in_order", values=written, above=0.5 if of_probabilities else 0.0)


def _values(labels: Labels, label: str | None) -> tuple[int, ...]:
    """Values of a label or region; of all foreground for None."""
    if label is None:
        return tuple(value for value in labels.values if value != 0)
    return tuple(labels.values[index] for index in labels.foreground[label])
