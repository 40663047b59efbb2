from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import torch
from step_builders import make_configuration, make_preparation

from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import build_model
from autoseg.networks.catalog import build_network
from autoseg.records import Case, Labels, Member, ModelHeader, PredictSettings

LABELS = Labels(names={"background": 0, "one": 1, "two": 2})


def small_model(spacing: tuple[float, float, float]) -> tuple[ModelHeader, dict[str, dict[str, torch.Tensor]]]:
    """A network of random weights: its masks mean nothing, but they depend on every voxel around."""
    preparation = make_preparation(spacing=spacing, labels=LABELS)
    configuration = make_configuration(preparation=preparation, spacing=spacing, patch_size=(32, 32, 32))
    torch.manual_seed(0)
    network = build_network(configuration.network_spec(1, LABELS.heads))
    header = ModelHeader(
        channels=("MR",),
        labels=LABELS,
        members=(Member(name="m", configuration=configuration, mirror_axes=(0, 1, 2)),),
    )
    return header, {"m": dict(network.state_dict())}


def test_every_way_of_storing_a_volume_gives_the_same_mask_in_the_world(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data" / "orientations").glob("*.nii.gz"))
    assert len(files) == 48
    reference = nibabel.as_closest_canonical(nibabel.load(files[0]))
    z, y, x = (float(size) * 1.4 for size in reversed(reference.header.get_zooms()[:3]))  # so that it is resampled too
    header, weights = small_model((z, y, x))
    model = build_model(header, weights, torch.device("cpu"), "float32")
    cases = [Case(id=file.name.removesuffix(".nii.gz"), images=(file,)) for file in files]
    masks = {
        outcome.case.id: outcome.unwrap()
        for outcome in predict_cases(model, cases, tmp_path, settings=PredictSettings(mirror=False))
    }
    expected = None
    for file in files:
        image, mask = nibabel.load(file), nibabel.load(masks[file.name.removesuffix(".nii.gz")])
        assert mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine)
        for part in ("sform_code", "qform_code", "xyzt_units"):
            assert mask.header[part] == image.header[part]
        found = np.asarray(nibabel.as_closest_canonical(mask).dataobj)
        expected = found if expected is None else expected
        assert np.array_equal(found, expected), file.name
    assert expected is not None
    assert set(np.unique(expected)) <= {0, 1, 2}
    assert len(np.unique(expected)) > 1
