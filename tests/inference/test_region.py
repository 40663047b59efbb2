"""Region of interest: what is kept of the tiles, and that masks are those of the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_builders import LABELS, make_configuration, make_header, threshold_tensors
from torch import Tensor, nn

from autoseg.inference.locating import described, find_regions
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.region import found_box, in_whole, moved_box, region_of
from autoseg.inference.scores import score_slabs_of
from autoseg.inference.tile_grid import tile_grid
from autoseg.inference.volume import mask_of_prepared, predict_volume, prepare_volume
from autoseg.networks import catalog
from autoseg.networks.catalog import build_network
from autoseg.records import Configuration, Geometry, Labels, ModelHeader, NetworkSpec, PredictSettings, Volume

CPU = torch.device("cpu")
IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
WITHIN = PredictSettings(mirror=False, roi=True)


class Surroundings(nn.Module):
    """Scores that depend on five voxels around, of which zeros lie beyond the patch."""

    deep_supervision = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.heads = spec.heads

    def forward(self, image: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool3d(image[:, :1], 5, stride=1, padding=2)
        return torch.cat([1 - blurred, 0 * blurred + self.bias, 2 * blurred - 4], dim=1)


@pytest.fixture(autouse=True)
def looking_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.NETWORKS, "surroundings", Surroundings)


def organs(shape: tuple[int, int, int] = (40, 60, 50)) -> Volume:
    """One box above 1 with one above 2 in it, in a large volume that is zero nowhere."""
    image = np.full((1, *shape), 0.25, dtype=np.float32)
    image[0, 14:22, 20:34, 12:26] = 1.6
    image[0, 16:20, 24:30, 15:22] = 3.0
    return Volume(image, Geometry(shape=shape, affine=IDENTITY))


def a_model(*entries: Configuration, labels: Labels = LABELS) -> LoadedModel:
    header = make_header(*entries, labels=labels)
    return build_model(header, threshold_tensors(header), CPU, "float32")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def passes(model: LoadedModel, volume: Volume, how: PredictSettings) -> int:
    seen: list[int] = []
    predict_volume(model, volume, settings=how, on_tile=seen.append)
    return sum(seen)


sizes = st.integers(1, 40)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_each_voxel_that_is_kept_has_the_tile_in_whose_middle_it_lies_best(data: st.DataObject) -> None:
    shape = tuple(data.draw(sizes) for _ in range(3))
    patch = tuple(data.draw(st.integers(1, 16)) for _ in range(3))
    whole = tile_grid(shape, patch, data.draw(st.sampled_from([0.3, 0.5, 0.8, 1.0])))
    starts = [data.draw(st.integers(0, size - 1)) for size in shape]
    box = tuple((start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, shape, strict=True))
    region = region_of(box, whole)  # type: ignore[arg-type]
    assert region.grid.patch == whole.patch
    assert region.grid.shape == tuple(stop - start for start, stop in region.cut)
    assert 0 < region.share <= 1
    for axis in range(3):
        (low, high), (first, last) = region.kept[axis], region.cut[axis]
        assert first <= low <= box[axis][0]
        assert box[axis][1] <= high <= last <= shape[axis]
        ours = {start + first for start in region.grid.starts[axis]}
        assert ours <= set(whole.starts[axis])
        middles = {start: start - whole.pads[axis][0] + (patch[axis] - 1) / 2 for start in whole.starts[axis]}
        for voxel in range(low, high):
            nearest = min(abs(middle - voxel) for middle in middles.values())
            assert any(abs(middles[start] - voxel) == nearest for start in ours)


def test_a_margin_surrounds_what_was_found() -> None:
    region = region_of(((40, 50), (0, 9), (90, 100)), tile_grid((100, 100, 100), (64, 16, 16), 0.5))
    assert region.kept == ((32, 58), (0, 13), (86, 100))


def test_a_box_moves_to_another_grid() -> None:
    assert moved_box(((1, 3), (0, 5), (4, 5)), (5, 5, 5), (10, 4, 7)) == ((2, 6), (0, 4), (5, 7))


def test_the_box_is_of_the_labels_that_are_wanted() -> None:
    found = np.zeros((6, 6, 6), np.uint8)
    found[1:3, 2:4, 0:5], found[2, 3, 4:6] = 1, 2
    assert found_box(found, LABELS) == ((1, 3), (2, 4), (0, 6))
    assert found_box(found, LABELS, ["white"]) == ((2, 3), (3, 4), (4, 6))
    assert found_box(found * 0, LABELS) is None


@pytest.mark.parametrize("regions", [False, True])
def test_all_around_is_background(regions: bool) -> None:
    names = {"background": 0, "whole": (1, 2), "core": (2,)} if regions else {"background": 0, "a": 1, "b": 2}
    labels = Labels(names=names)  # type: ignore[arg-type]
    whole = tile_grid((30, 12, 12), (8, 6, 6), 0.5)
    region = region_of(((13, 15), (4, 6), (5, 7)), whole)
    scores = torch.randn(labels.heads, *region.grid.shape)
    slabs = list(in_whole(iter(scores.split(3, dim=1)), region, labels))
    placed = torch.cat(slabs, dim=1)
    assert placed.shape[1:] == (30, 12, 12)
    assert max(slab.shape[1] for slab in slabs) <= 8
    kept, cut = (tuple(slice(*interval) for interval in box) for box in (region.kept, region.cut))
    cut_out = torch.full((labels.heads, 30, 12, 12), torch.nan)
    cut_out[:, *cut] = scores
    assert torch.equal(placed[:, *kept], cut_out[:, *kept])
    outside = torch.ones(30, 12, 12, dtype=torch.bool)
    outside[kept] = False
    assert (placed[-1, outside] < -20).all()
    assert (placed[0, outside] < -20).all() if regions else (placed[0, outside] > 20).all()


def test_nobody_disagrees_on_what_is_not_looked_at() -> None:
    model = narrowed(a_model(make_configuration()), WITHIN)
    prepared = prepare_volume(model, "a", organs())
    images = [prepared[0].image]
    (region,) = find_regions(model, prepared, images, settings=WITHIN)
    assert region is not None
    slabs = score_slabs_of(model, model.groups[0], images[0], settings=WITHIN, region=region, disagreement=True)
    disagreement = torch.cat(list(slabs), dim=1)[len(LABELS.values)]
    disagreement[tuple(slice(*interval) for interval in region.kept)] = 0
    assert not disagreement.any()


def test_scores_within_are_those_of_the_whole_volume() -> None:
    """Bit by bit but for rounding, wherever no tile is missing."""
    entry = make_configuration(network="unet", patch=(8, 8, 8))
    header = make_header(entry)
    torch.manual_seed(0)
    weights = {member.name: build_network(entry.network_spec(1, 3)).state_dict() for member in header.members}
    model = build_model(header, weights, CPU, "float32")
    image = np.random.default_rng(0).normal(size=(1, 40, 40, 40)).astype(np.float32)
    grid = tile_grid((40, 40, 40), (8, 8, 8))
    region = region_of(((16, 28), (0, 12), (20, 40)), grid)
    how = PredictSettings(mirror=False)
    group = model.groups[0]
    whole = torch.cat(list(score_slabs_of(model, group, image, settings=how)), dim=1)
    part = torch.cat(list(score_slabs_of(model, group, image, settings=how, region=region)), dim=1)
    full = tuple(
        slice(low + (0 if low == 0 else 8), high - (0 if high == 40 else 8)) for low, high in region.cut
    )  # a tile that is missing reaches in by less than the patch
    assert all(full_axis.stop - full_axis.start > 3 for full_axis in full)
    torch.testing.assert_close(part[:, *full], whole[:, *full], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(part, whole)


@pytest.mark.parametrize("mirror", [False, True])
def test_masks_are_those_of_the_whole_volume(mirror: bool) -> None:
    model, volume = a_model(make_configuration()), organs()
    how = PredictSettings(mirror=mirror)
    whole = predict_volume(model, volume, settings=how)
    within = how.model_copy(update={"roi": True})
    np.testing.assert_array_equal(predict_volume(model, volume, settings=within), whole)
    assert set(np.unique(whole)) == {0, 1, 4}
    assert passes(model, volume, within) < passes(model, volume, how) / 2


def test_masks_differ_in_few_voxels_where_surroundings_count() -> None:
    model, volume = a_model(make_configuration(network="surroundings")), organs()
    whole = predict_volume(model, volume, settings=PredictSettings(mirror=False))
    within = predict_volume(model, volume, settings=WITHIN)
    for value in (1, 4):
        assert (whole == value).sum() > 20
        assert dice(within == value, whole == value) > 0.98


def test_a_resampled_image_is_cropped_alike() -> None:
    model, volume = a_model(make_configuration(spacing=(0.7, 1.3, 0.9))), organs()
    whole = predict_volume(model, volume, settings=PredictSettings(mirror=False))
    np.testing.assert_array_equal(predict_volume(model, volume, settings=WITHIN), whole)


def test_slices_of_a_2d_network_are_left_out() -> None:
    entry = make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))
    model, volume = a_model(entry), organs()
    whole = predict_volume(model, volume, settings=PredictSettings(mirror=False))
    np.testing.assert_array_equal(predict_volume(model, volume, settings=WITHIN), whole)
    assert passes(model, volume, WITHIN) < passes(model, volume, PredictSettings(mirror=False))


def test_where_nothing_is_found_the_whole_volume_is_predicted() -> None:
    model = narrowed(a_model(make_configuration()), WITHIN)
    volume = organs()
    empty = Volume(np.minimum(volume.image, 0.25), volume.geometry)
    prepared = prepare_volume(model, "a", empty)
    notes: list[str] = []
    mask = mask_of_prepared(model, prepared, settings=WITHIN, on_note=notes.append)
    assert not mask.any()
    assert notes == ["the coarse pass found nothing, so the whole volume was predicted"]
    assert find_regions(model, prepared, [prepared[0].image], settings=WITHIN) == (None,)


def test_the_region_may_be_that_of_one_label() -> None:
    model, volume = a_model(make_configuration()), organs()
    how = PredictSettings(mirror=False, labels=("white",))
    whole = predict_volume(model, volume)
    mask = predict_volume(model, volume, settings=how.model_copy(update={"roi": True}))
    np.testing.assert_array_equal(mask, np.where(whole == 4, 4, 0))
    assert passes(model, volume, how.model_copy(update={"roi": True})) < passes(model, volume, WITHIN)


def test_a_low_resolution_finds_the_region_even_where_it_is_not_averaged() -> None:
    fine, low = (
        make_configuration(),
        make_configuration(spacing=(2.0, 2.0, 2.0)).model_copy(
            update={"name": "3d_lowres", "spacing": (2.0, 2.0, 2.0)}
        ),
    )
    how = PredictSettings(mirror=False, roi=True, members=("3d.fold_0",))
    model = narrowed(a_model(fine, low), how)
    assert [group.names for group in model.groups] == [("3d.fold_0",)]
    assert model.locator is not None
    assert model.locator.names == ("3d_lowres.fold_1",)
    assert narrowed(model, how).locator is model.locator
    alone = predict_volume(a_model(fine), organs(), settings=PredictSettings(mirror=False))
    np.testing.assert_array_equal(predict_volume(model, organs(), settings=how), alone)
    assert passes(model, organs(), how) < passes(a_model(fine), organs(), WITHIN)


def test_a_cascade_needs_no_coarse_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    low = make_configuration().model_copy(update={"name": "low"})
    second = make_configuration().model_copy(update={"previous_stage": "low"})
    header = make_header(low, second)
    below, above = header.members
    header = ModelHeader(
        channels=header.channels,
        labels=LABELS,
        members=(below, above.model_copy(update={"previous_stage": below.name})),
    )
    model = build_model(header, threshold_tensors(header), CPU, "float32")
    whole = predict_volume(model, organs(), settings=PredictSettings(mirror=False))
    np.testing.assert_array_equal(predict_volume(model, organs(), settings=WITHIN), whole)
    monkeypatch.setattr("autoseg.inference.locating._located", None)
    predict_volume(model, organs(), settings=WITHIN)


def test_what_was_spared_is_told() -> None:
    whole = tile_grid((100, 100, 100), (20, 20, 20))
    region = region_of(((0, 10), (0, 10), (0, 10)), whole)
    assert described([region]) == "99% of the volume was spared, which lies outside the region of interest"
    assert described([region, None]).startswith("50%")
