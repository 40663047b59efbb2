"""Maps beside the mask: what they say, where they lie, and that they leave the mask alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_builders import LABELS, make_configuration, make_header, phantom, threshold_tensors
from scores_builders import score_prepared

from autoseg.inference.maps import calibrated_probabilities, entropy_bits
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.inference.volume import prepare_volume
from autoseg.inference.writing import CaseOutcome
from autoseg.networks.catalog import build_network
from autoseg.records import (
    Calibration,
    Case,
    Configuration,
    Geometry,
    Labels,
    MapKinds,
    PredictSettings,
    Reliability,
    Temperature,
    Volume,
)

CPU = torch.device("cpu")
EVERY = MapKinds(probabilities=True, uncertainty=True)
OBLIQUE = np.array([[0, -2, 0.1, 5], [0.1, 0, 1, -3], [1.5, 0.1, 0, 2], [0, 0, 0, 1]], dtype=float)
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
Write = Callable[..., Path]


def calibration(*values: float) -> Calibration:
    nothing = Reliability(ece=0, nll=0, bins=())
    entries = tuple(Temperature(name="all labels", value=value, before=nothing, after=nothing) for value in values)
    return Calibration(temperatures=entries, fitted_on=1, reported_on=1, voxels=1)


def a_model(
    *configurations: Configuration, biases: tuple[float, ...] = (), temperatures: tuple[float, ...] = ()
) -> LoadedModel:
    header = make_header(*configurations)
    if temperatures:
        header = header.model_copy(update={"calibration": calibration(*temperatures)})
    return build_model(header, threshold_tensors(header, *biases), CPU, "float32")


def predicted(model: LoadedModel, path: Path, folder: Path, maps: MapKinds = EVERY, **options: object) -> CaseOutcome:
    case = Case(id="a", images=(path,))
    (outcome,) = predict_cases(model, [case], folder, maps=maps, **options)  # type: ignore[arg-type]
    outcome.unwrap()
    return outcome


def values_of(path: Path) -> np.ndarray:
    """(volumes, k, j, i) of a map of four dimensions, (k, j, i) of one of three."""
    return np.transpose(nibabel.load(path).get_fdata(dtype=np.float32))


def most_probable(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(LABELS.values)[probabilities.argmax(0)]


MODELS = {
    "one network": lambda: a_model(make_configuration()),
    "three folds": lambda: a_model(*[make_configuration()] * 3, biases=(-1.0, 0.0, 1.0)),
    "finer spacing": lambda: a_model(make_configuration(spacing=(0.7, 0.8, 0.9))),
    "two kinds": lambda: a_model(make_configuration(), make_configuration(spacing=(0.8, 0.8, 0.8)), biases=(-1.0, 1.0)),
    "two orientations": lambda: a_model(make_configuration(), stored_axes(), biases=(-1.0, 1.0)),
    "slices": lambda: a_model(make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))),
}


def stored_axes() -> Configuration:
    entry = make_configuration()
    return entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"orientation": "stored"})})


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("roi", [False, True])
def test_maps_lie_on_the_images_grid_and_go_with_the_mask(
    kind: str, roi: bool, write_image: Write, tmp_path: Path
) -> None:
    model = MODELS[kind]()
    path = write_image("a.nii.gz", affine=OBLIQUE)
    how = PredictSettings(roi=roi)
    plain = predicted(model, path, tmp_path / "plain", MapKinds(), settings=how)
    with_maps = predicted(model, path, tmp_path / "maps", settings=how)
    assert not plain.maps
    assert plain.unwrap().read_bytes() == with_maps.unwrap().read_bytes()
    assert plain.seen == with_maps.seen

    mask = nibabel.load(with_maps.unwrap())
    for file in with_maps.maps.values():
        stored = nibabel.load(file)
        assert stored.shape[:3] == mask.shape
        for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "xyzt_units"):
            assert stored.header[field].tobytes() == mask.header[field].tobytes()
        assert stored.header["pixdim"][:4].tobytes() == mask.header["pixdim"][:4].tobytes()

    probabilities = values_of(with_maps.maps["probabilities"])
    assert probabilities.shape == (3, *mask.shape[::-1])
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=3 / 65535)
    ascending = np.sort(probabilities, axis=0)
    clear = ascending[-1] - ascending[-2] > 1e-4
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(most_probable(probabilities)[clear], np.transpose(mask.get_fdata())[clear])
    entropy = values_of(with_maps.maps["entropy"])
    exact = entropy_bits(torch.from_numpy(probabilities), False).numpy()
    np.testing.assert_allclose(entropy, exact, atol=0.003)
    disagreement = values_of(with_maps.maps["disagreement"])
    assert disagreement.min() >= 0
    assert (disagreement.max() > 0.05) == (kind in ("three folds", "two kinds", "two orientations"))


def test_probabilities_are_those_of_the_scores(write_image: Write, tmp_path: Path) -> None:
    model = a_model(*[make_configuration()] * 2, biases=(-1.0, 1.0))
    outcome = predicted(model, write_image("a.nii.gz"), tmp_path)
    stored = np.ascontiguousarray(np.transpose(phantom())[None])
    rows = tuple(tuple(row) for row in np.eye(4).tolist())
    volume = Volume(stored, Geometry(shape=stored.shape[1:], affine=rows))  # type: ignore[arg-type]
    prepared = prepare_volume(model, "a", volume)
    (scores,) = score_prepared(model, prepared)
    (z0, z1), (y0, y1), (x0, x1) = prepared[0].placement.box
    expected = torch.from_numpy(scores).softmax(0).numpy()
    found = values_of(outcome.maps["probabilities"])
    np.testing.assert_allclose(found[:, z0:z1, y0:y1, x0:x1], expected, atol=1e-5)
    outside = np.ones(found.shape[1:], dtype=bool)
    outside[z0:z1, y0:y1, x0:x1] = False
    assert outside.any()
    assert (found[0][outside] == 1).all()


def test_disagreement_is_the_ambiguity_of_the_pool(write_image: Write, tmp_path: Path) -> None:
    """By definition: the mean distance of each network's probabilities from those of the averaged scores."""
    biases = (-1.5, 0.0, 2.0)
    model = a_model(*[make_configuration()] * 3, biases=biases)
    found = values_of(predicted(model, write_image("a.nii.gz"), tmp_path).maps["disagreement"])
    first = torch.from_numpy(np.transpose(phantom()).copy())
    scores = torch.stack([torch.stack([1 - first, first * 0 + bias, 2 * first - 4]) for bias in biases])
    pool = scores.mean(0).log_softmax(0)
    each = scores.log_softmax(1)
    expected = (pool.exp() * (pool - each)).sum(1).mean(0).numpy() / np.log(2)
    inside = np.transpose(phantom()) > 0
    assert expected[inside].max() > 0.2
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.002)


@pytest.mark.parametrize("half", [False, True])
def test_who_agrees_with_certainty_is_not_uncertain(half: bool, write_image: Write, tmp_path: Path) -> None:
    entry = make_configuration()
    header = make_header(entry, entry)
    if half:
        members = tuple(member.model_copy(update={"half_sums": True}) for member in header.members)
        header = header.model_copy(update={"members": members})
    model = build_model(header, threshold_tensors(header, -40.0, -40.0), CPU, "float32")
    image = np.where(phantom() > 2, 40.0, np.where(phantom() > 0, -40.0, 0.0)).astype(np.float32)
    outcome = predicted(model, write_image("a.nii.gz", image), tmp_path)
    for kind in ("entropy", "disagreement"):
        np.testing.assert_array_equal(values_of(outcome.maps[kind]), 0)
    assert set(np.unique(values_of(outcome.maps["probabilities"]))) == {0, 1}


def test_sums_of_nnunet_keep_their_masks_and_lose_nothing_of_the_maps(write_image: Write, tmp_path: Path) -> None:
    entry = make_configuration()
    exact = make_header(entry, entry)
    members = tuple(member.model_copy(update={"half_sums": True}) for member in exact.members)
    half = exact.model_copy(update={"members": members})
    path = write_image("a.nii.gz", phantom() + 0.003)
    models = [build_model(header, threshold_tensors(header, -1.0, 2.0), CPU, "float32") for header in (exact, half)]
    plain = predicted(models[1], path, tmp_path / "plain", MapKinds())
    first, second = (predicted(model, path, tmp_path / str(index)) for index, model in enumerate(models))
    assert plain.unwrap().read_bytes() == second.unwrap().read_bytes()
    found = values_of(second.maps["disagreement"])
    assert found.max() > 0.1
    np.testing.assert_allclose(found, values_of(first.maps["disagreement"]), atol=0.002)


def test_features_that_are_summed_in_place_of_scores(write_image: Write, tmp_path: Path) -> None:
    """Networks with more labels than features: the mask is the same, and the maps are those of their scores."""
    labels = Labels(names={"background": 0} | {f"label {number}": number for number in range(1, 12)})
    entry = make_configuration(network="unet", labels=labels, patch=(8, 12, 8))
    header = make_header(entry, entry, labels=labels)
    tensors = {}
    for number, member in enumerate(header.members):
        torch.manual_seed(number)
        network = build_network(entry.network_spec(1, labels.heads))
        tensors[member.name] = {name: tensor * 3 for name, tensor in network.state_dict().items()}
    model = build_model(header, tensors, CPU, "float32")
    assert model.groups[0].networks[0].feature_channels * 2 < labels.heads
    path = write_image("a.nii.gz")
    plain = predicted(model, path, tmp_path / "plain", MapKinds())
    with_maps = predicted(model, path, tmp_path / "maps")
    assert plain.unwrap().read_bytes() == with_maps.unwrap().read_bytes()
    found = values_of(with_maps.maps["disagreement"])
    halves = [
        build_model(
            make_header(entry, labels=labels).model_copy(update={"members": (member,)}),
            {member.name: tensors[member.name]},
            CPU,
            "float32",
        )
        for member in header.members
    ]
    each = [values_of(predicted(part, path, tmp_path / str(n)).maps["disagreement"]) for n, part in enumerate(halves)]
    assert found.max() > 0.01
    assert found.mean() > np.mean(each)  # two networks differ more than the mirrored copies of either


def test_regions(write_image: Write, tmp_path: Path) -> None:
    entry = make_configuration(network="threshold", labels=REGIONS)
    header = make_header(entry, entry, labels=REGIONS)
    tensors = {member.name: {"bias": torch.tensor([bias])} for member, bias in zip(header.members, (0, 1), strict=True)}

    class TwoRegions(torch.nn.Module):
        deep_supervision = True

        def __init__(self, _spec: object) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            first = image[:, :1]
            return torch.cat([2 * first - 2 + self.bias, 2 * first - 4 - self.bias], dim=1)

    from autoseg.networks import catalog

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.NETWORKS, "threshold", TwoRegions)
        model = build_model(header, tensors, CPU, "float32")
    outcome = predicted(model, write_image("a.nii.gz"), tmp_path)
    mask = np.transpose(nibabel.load(outcome.unwrap()).get_fdata())
    probabilities = values_of(outcome.maps["probabilities"])
    assert probabilities.shape[0] == 2
    np.testing.assert_array_equal(mask, np.where(probabilities[1] > 0.5, 2, np.where(probabilities[0] > 0.5, 1, 0)))
    assert values_of(outcome.maps["disagreement"]).max() > 0.01
    assert (probabilities[:, 0, 0, 0] == 0).all()
    assert values_of(outcome.maps["entropy"]).max() <= 2.001


def test_a_temperature_changes_probabilities_and_no_label(write_image: Write, tmp_path: Path) -> None:
    path = write_image("a.nii.gz")
    entry = make_configuration()
    raw = predicted(a_model(entry), path, tmp_path / "raw")
    warm = predicted(a_model(entry, temperatures=(2.5,)), path, tmp_path / "warm")
    assert raw.unwrap().read_bytes() == warm.unwrap().read_bytes()
    assert raw.seen == warm.seen
    one, other = (values_of(outcome.maps["probabilities"]) for outcome in (raw, warm))
    inside = np.transpose(phantom()) > 2
    assert other.max(0)[inside].max() < one.max(0)[inside].min()
    ascending = np.sort(other, axis=0)
    clear = ascending[-1] - ascending[-2] > 1e-3
    np.testing.assert_array_equal(one.argmax(0)[clear], other.argmax(0)[clear])


@settings(deadline=None)
@given(
    scores=st.lists(st.lists(st.floats(-20, 20), min_size=4, max_size=4), min_size=1, max_size=5),
    temperature=st.floats(0.2, 8),
)
def test_calibrated_probabilities(scores: list[list[float]], temperature: float) -> None:
    labels = Labels(names={"background": 0, "a": 1, "b": 2, "c": 3})
    table = torch.tensor(scores).T
    found = calibrated_probabilities(table.softmax(0), labels, calibration(temperature))
    torch.testing.assert_close(found, (table / temperature).softmax(0), atol=1e-4, rtol=0)
    ascending = table.sort(0).values
    clear = ascending[-1] - ascending[-2] > 0.01
    assert (found.argmax(0) == table.argmax(0))[clear].all()
    plain = table[:2].sigmoid()
    of_regions = calibrated_probabilities(plain, REGIONS, calibration(temperature, 1.0))
    torch.testing.assert_close(of_regions[1], plain[1], atol=1e-6, rtol=0)
    decided = (plain[0] - 0.5).abs() > 1e-4
    assert ((of_regions[0] > 0.5) == (plain[0] > 0.5))[decided].all()


@pytest.mark.parametrize(
    ("probabilities", "bits"), [([0.5, 0.5], 1), ([1.0, 0.0], 0), ([0.25] * 4, 2), ([0.9, 0.1], 0.4689956)]
)
def test_entropy(probabilities: list[float], bits: float) -> None:
    assert float(entropy_bits(torch.tensor(probabilities), False)) == pytest.approx(bits)


def test_a_picture_has_flat_maps(tmp_path: Path) -> None:
    from PIL import Image

    flat = (phantom()[:, :, 6] * 50).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(flat.T).save(path)
    entry = make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))
    outcome = predicted(a_model(entry), path, tmp_path / "masks")
    assert nibabel.load(outcome.maps["entropy"]).shape == flat.shape
    assert nibabel.load(outcome.maps["probabilities"]).shape == (*flat.shape, 1, 3)
