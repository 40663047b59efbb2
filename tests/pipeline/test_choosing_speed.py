"""Modes, deadlines and what is told of them, through the whole command; what a pass takes is given by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from step_builders import LABELS, make_configuration

from autoseg.dataset import inputs
from autoseg.errors import UsageError
from autoseg.inference.speeds import speed_modes
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.pipeline import choosing_speed
from autoseg.pipeline.case_meter import CaseMeter
from autoseg.pipeline.choosing_speed import CasePlan, asked_modes, deadline_lines, mode_line, preview
from autoseg.pipeline.predict import predict
from autoseg.progress import SilentProgress
from autoseg.records import BEST_PREDICTION, Case, Geometry, Member, ModelHeader, PredictSettings, SpeedMode

HEADER = ModelHeader(
    channels=("MR",),
    labels=LABELS,
    members=tuple(
        Member(name=f"3d_fullres.fold_{fold}", configuration=make_configuration(), mirror_axes=(0, 1, 2))
        for fold in range(2)
    ),
)


class Heard(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    spec = HEADER.members[0].configuration.network_spec(1, 3)
    path = tmp_path / "model.safetensors"
    write_model(path, HEADER, {member.name: build_network(spec).state_dict() for member in HEADER.members})
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("small", 16), ("large", 40)):
        array = np.random.default_rng(size).normal(1, 1, (size, 16, 16)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def pass_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def install(seconds: float) -> None:
        known = {member.name: seconds for member in HEADER.members}
        monkeypatch.setattr(choosing_speed, "time_passes", lambda model, most: known)

    return install


def made_how(masks: Path) -> dict[str, PredictSettings]:
    found = json.loads((masks / "predictions.json").read_text(encoding="utf-8"))["masks"]
    return {
        case: PredictSettings.model_validate_json(entry["options"].split(" precision=")[0])
        for case, entry in found.items()
    }


def test_by_hand_overrides_the_mode_and_forgets_what_was_measured() -> None:
    measured = SpeedMode(name="fast", settings=PredictSettings(step=0.9), mean_dice=0.9, cases=4, seconds_per_case=1.0)
    header = HEADER.model_copy(update={"speeds": (measured,)})
    (mode,) = asked_modes([header], speed="fast", settings=PredictSettings(mirror=False))
    assert mode.settings == PredictSettings(step=0.9, mirror=False)
    assert mode.mean_dice is None
    (labelled,) = asked_modes([header], speed="fast", settings=PredictSettings(labels=("tumor",)))
    assert labelled.mean_dice == 0.9  # of each label it is what it was
    (exact,) = asked_modes([header], speed="fast", settings=BEST_PREDICTION, precision="float32")
    assert (exact.precision, exact.mean_dice) == ("float32", None)
    (best,) = asked_modes([header], settings=BEST_PREDICTION)
    assert best.settings == BEST_PREDICTION


def test_a_speed_and_a_deadline_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="contradict"):
        asked_modes([HEADER], speed="fast", deadline=3.0, settings=BEST_PREDICTION)
    with pytest.raises(UsageError, match="Known are: organ, tumor"):
        asked_modes([HEADER], settings=PredictSettings(labels=("lung",)))


def test_headers_are_read_twice_to_find_the_cases_and_to_know_their_grids(
    model: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a DICOM series each reading opens every file."""
    read: list[str] = []
    real = inputs.read_geometry

    def counted(path: Path) -> tuple[Geometry, int]:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(inputs, "read_geometry", counted)
    predict(images, tmp_path / "masks", models=(model,), speed="fast", device="cpu", progress=Heard())
    assert sorted(read) == ["large.nii.gz"] * 2 + ["small.nii.gz"] * 2


def test_a_deadline_chooses_case_by_case(
    model: Path, images: Path, tmp_path: Path, pass_of: Callable[[float], None]
) -> None:
    """small: 1 tile; large: 4 tiles, 3 in fast. best 16 passes a tile, balanced 2, fast 1."""
    pass_of(1.0)
    heard = Heard()
    masks = tmp_path / "masks"
    predict(images, masks, models=(model,), device="cpu", deadline=18.0, progress=heard)
    fast, balanced, best = (mode.settings for mode in speed_modes([HEADER]))
    assert made_how(masks) == {"small": best, "large": balanced}
    assert "2 cases, about 24 s (1 balanced, 1 best)" in "\n".join(heard.lines)
    assert "small: best takes about 16 s" in heard.lines
    assert "large: balanced takes about 8.0 s, best would take 1 min 4 s" in heard.lines
    predict(images, masks, models=(model,), device="cpu", deadline=3.0, progress=heard)
    assert made_how(masks) == {"small": best, "large": balanced}  # masks made in any of the modes stay
    predict(images, tmp_path / "others", models=(model,), device="cpu", deadline=2.5, progress=heard)
    assert made_how(tmp_path / "others") == {"small": balanced, "large": fast}
    assert "large: even fast takes about 3.0 s, 0.5 s more than the deadline" in heard.lines


def test_the_speed_is_kept_beside_the_masks(model: Path, images: Path, tmp_path: Path) -> None:
    masks, heard = tmp_path / "masks", Heard()
    options = {"models": (model,), "device": "cpu", "progress": heard}
    predict(images, masks, speed="fast", settings=PredictSettings(labels=("tumor",)), **options)  # type: ignore[arg-type]
    wanted = PredictSettings(step=0.8, mirror=False, members=("3d_fullres.fold_0",), labels=("tumor",))
    assert made_how(masks) == {"small": wanted, "large": wanted}
    assert json.loads((masks / "labels.json").read_text())["labels"] == {"background": [0], "tumor": [2]}
    assert set(np.unique(nibabel.load(masks / "large.nii.gz").dataobj)) <= {0, 2}
    assert any(line.startswith("fast: step 0.8, not mirrored, 1 network (not measured") for line in heard.lines)
    again = predict(images, masks, speed="fast", settings=PredictSettings(labels=("tumor",)), **options)  # type: ignore[arg-type]
    assert len(again.skipped) == 2
    assert len(predict(images, masks, speed="balanced", **options).written) == 2  # type: ignore[arg-type]


def test_what_was_spared_is_told_case_by_case(model: Path, images: Path, tmp_path: Path) -> None:
    heard = Heard()
    settings = PredictSettings(roi=True)
    predict(images, tmp_path / "masks", models=(model,), device="cpu", settings=settings, progress=heard)
    assert any("2 cases, at most about" in line for line in heard.lines)
    assert sum("of the volume was spared" in line or "found nothing" in line for line in heard.lines) == 2


def test_long_predictions_tell_what_is_quicker(
    model: Path, images: Path, tmp_path: Path, pass_of: Callable[[float], None]
) -> None:
    pass_of(2.0)
    heard = Heard()
    predict(images, tmp_path / "masks", models=(model,), device="cpu", progress=heard)
    assert "Quicker: --speed balanced in about 20 s, --speed fast in about 8.0 s" in heard.lines


def test_a_header_that_cannot_be_read_fails_by_name(model: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.nii.gz").write_bytes(b"no image")
    report = predict(images, tmp_path / "masks", models=(model,), device="cpu", speed="fast", progress=Heard())
    assert set(report.written) == {"small", "large"}
    assert set(report.failures) == {"broken"}


def plans(*passes: int | None, missed: float = 0.0, why: str = "") -> list[CasePlan]:
    from autoseg.inference.forecast import CaseForecast

    mode = SpeedMode(name="fast", settings=BEST_PREDICTION)
    return [
        CasePlan(
            Case(id=f"c{index}", images=(Path("x"),)),
            mode,
            None if count is None else CaseForecast(count, count // 8, 1.0, float(count), 1.0, 10**9),
            why,
            missed * index,
        )
        for index, count in enumerate(passes)
    ]


def test_many_cases_are_told_of_only_where_they_miss_the_deadline() -> None:
    told = deadline_lines(plans(*[8] * 30, missed=0.5, why="late"))
    assert told[0] == "c29: late"
    assert len(told) == 10
    assert deadline_lines(plans(*[8] * 30, why="in time")) == []
    assert len(deadline_lines(plans(*[8] * 3, why="in time"))) == 3


def test_headers_that_cannot_be_read_are_no_estimate() -> None:
    assert preview(plans(None, None)) == "2 cases whose headers cannot be read"
    assert preview(plans(8, None)).startswith("2 cases, about 10 s (fast); about ")


def test_what_was_measured_is_told() -> None:
    mode = SpeedMode(name="best", settings=BEST_PREDICTION, mean_dice=0.8765, cases=12)
    assert mode_line(mode) == "best: step 0.5, mirrored (mean Dice 0.876 of 12 held-out cases)"
    timed = mode.model_copy(update={"seconds_per_case": 75.0, "device": "cpu, 2 cores, 8 GB"})
    assert mode_line(timed).endswith("held-out cases, 1 min 15 s each on cpu, 2 cores, 8 GB)")


def test_a_mode_that_is_not_quicker_is_not_offered(
    model: Path, images: Path, tmp_path: Path, pass_of: Callable[[float], None]
) -> None:
    """With these steps all modes have the same tiles."""
    pass_of(60.0)
    heard = Heard()
    settings = PredictSettings(step=0.5, mirror=False, members=("3d_fullres.fold_0",))
    predict(images, tmp_path / "m", models=(model,), device="cpu", settings=settings, progress=heard)
    assert not [line for line in heard.lines if line.startswith("Quicker")]


class View:
    def __init__(self) -> None:
        self.shown: list[tuple[int, dict[str, str]]] = []

    def show(self, done: int, figures: dict[str, str]) -> None:
        self.shown.append((done, figures))

    def line(self, words: str) -> None:
        raise AssertionError(words)


def test_the_bar_counts_passes_and_never_goes_back() -> None:
    now, view = [0.0], View()
    meter = CaseMeter(view, plans(80, 800, 80), clock=lambda: now[0])  # type: ignore[arg-type]
    assert meter.left is None
    now[0] = 8.0
    meter.tiles(10)
    assert view.shown[-1] == (80, {"cases": "0 of 3", "left": "about 1 min 28 s"})
    meter.tiles(50)  # the next case, while the first is being written
    assert view.shown[-1][0] == 480
    meter.case()
    assert view.shown[-1][0] == 480
    meter.case()  # it was cropped: fewer tiles than its header said
    assert view.shown[-1] == (880, {"cases": "2 of 3", "left": "about 0.7 s"})
    meter.tiles(1000)
    assert view.shown[-1][0] == 960
    meter.case()
    assert view.shown[-1][0] == 960
    done = [count for count, _ in view.shown]
    assert done == sorted(done)
