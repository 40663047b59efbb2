"""Large pictures go row by row, and nobody sees it in what comes out."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from inference_builders import LABELS, make_configuration, make_header
from PIL import Image

from autoseg.inference import rows, window_sums
from autoseg.inference.memory import case_memory
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.rows import by_rows, placed_rows_first, rows_first
from autoseg.inference.writing import CaseOutcome
from autoseg.networks.catalog import build_network
from autoseg.records import Case, Geometry, MapKinds, Placement, PredictSettings

CPU = torch.device("cpu")
IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
SPACINGS = {"one network": [1.0], "resampled": [0.8], "three folds": [1.0] * 3, "two grids": [1.0, 0.7]}


def a_model(*edges: float, patch: tuple[int, int] = (16, 24)) -> LoadedModel:
    """2D U-Nets with random weights."""
    entries = [
        make_configuration(dimensions=2, spacing=(None, edge, edge), patch=patch, network="unet") for edge in edges
    ]
    header = make_header(*entries)
    torch.manual_seed(2)
    tensors = {
        member.name: build_network(member.configuration.network_spec(1, LABELS.heads)).state_dict()
        for member in header.members
    }
    return build_model(header, tensors, CPU, "float32")


def a_picture(path: Path, shape: tuple[int, int] = (61, 50)) -> Path:
    """Dark at its ends, so that it is cropped."""
    pixels = np.random.default_rng(0).integers(1, 255, size=shape, dtype=np.uint8)
    pixels[:3], pixels[:, -4:] = 0, 0
    Image.fromarray(pixels).save(path)
    return path


def predicted(model: LoadedModel, picture: Path, folder: Path, **options: object) -> CaseOutcome:
    maps = MapKinds(probabilities=True, uncertainty=True)
    (outcome,) = predict_cases(
        model, [Case(id="a", images=(picture,))], folder, maps=maps, settings=PredictSettings(**options)
    )
    outcome.unwrap()
    return outcome


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("edges", SPACINGS.values(), ids=SPACINGS)
def test_mask_and_maps_are_the_same(
    edges: list[float], mirror: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, picture = a_model(*edges), a_picture(tmp_path / "a.png")
    whole = predicted(model, picture, tmp_path / "whole", mirror=mirror)
    monkeypatch.setattr(rows, "LARGE_BYTES", 0)
    monkeypatch.setattr(window_sums, "SLAB_BYTES", 4 * LABELS.heads * 50 * 7)  # seven rows leave together
    found = predicted(model, picture, tmp_path / "rows", mirror=mirror)
    masks = [np.asarray(Image.open(outcome.unwrap())) for outcome in (whole, found)]
    assert len(np.unique(masks[0])) > 1
    assert (masks[0] != masks[1]).mean() < 1e-3  # but for ties
    for kind, file in whole.maps.items():
        ours, theirs = (nibabel.load(path).get_fdata() for path in (found.maps[kind], file))
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
    for name, told in whole.seen.evidence.items():
        for field, tolerance in (("confidence", 1e-3), ("boundary", 0.05)):
            ours, theirs = getattr(found.seen.evidence[name], field), getattr(told, field)
            assert ours == (theirs if theirs is None else pytest.approx(theirs, rel=tolerance))


def test_large_pictures_only() -> None:
    model = a_model(1.0)
    assert by_rows(model, [(1, 10_000, 10_000)])
    assert not by_rows(model, [(1, 1000, 1000)])
    assert not by_rows(model, [(2, 10_000, 10_000)])
    assert not by_rows(model, [(1, 10_000, 10_000), (1, 1000, 1000)])


def test_large_pictures_take_little_memory_beside_the_image() -> None:
    memory = case_memory(
        a_model(1.0, patch=(512, 512)),
        Geometry(shape=(1, 10_000, 10_000), affine=IDENTITY, flat=True),
        PredictSettings(),
    )
    whole_scores = 4 * LABELS.heads * 10**8
    assert memory.sums == 4 * LABELS.heads * 512 * 10_000
    assert memory.export < whole_scores / 2


def test_rows_come_first_in_the_placement_as_in_the_image() -> None:
    placement = Placement(
        geometry=Geometry(shape=(1, 30, 40), affine=IDENTITY, flat=True),
        orientation_axes=(0, 1, 2),
        orientation_flips=(False, False, False),
        axis_order=(0, 1, 2),
        transposed_shape=(1, 30, 40),
        transposed_spacing=(1.0, 2.0, 3.0),
        box=((0, 1), (2, 30), (0, 39)),
        prepared_shape=(1, 56, 39),
        prepared_spacing=(1.0, 1.0, 3.0),
    )
    turned = placed_rows_first(placement)
    assert rows_first(np.zeros((3, *placement.prepared_shape))).shape == (3, *turned.prepared_shape)
    assert (turned.axis_order, turned.cropped_shape) == ((1, 0, 2), (28, 1, 39))
    assert placed_rows_first(turned) == placement
