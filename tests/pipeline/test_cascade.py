"""The cascade from two folds of the first stage to masks: trained once on a tiny dataset, looked at from all sides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from autoseg.cli import main
from autoseg.dataset.folds import make_folds, read_splits, write_splits
from autoseg.dataset.readers import read_image
from autoseg.devices import choose_precision
from autoseg.errors import PlanError, TrainingError, UsageError
from autoseg.files import read_record, write_record
from autoseg.inference.cascade import seen_images
from autoseg.inference.predictor import load_models
from autoseg.inference.volume import prepare_volume
from autoseg.model_file import read_header
from autoseg.pipeline.every import in_order, train_every
from autoseg.pipeline.plan import plan
from autoseg.pipeline.plans import read_dataset, read_plan, signed
from autoseg.pipeline.predict import predict
from autoseg.pipeline.reports import EveryReport, TrainReport
from autoseg.pipeline.train import train
from autoseg.preprocessing.label_store import open_labels
from autoseg.progress import SilentProgress
from autoseg.records import Configuration, Plan, Probe, StepProbe
from autoseg.training import cases as cases_module
from autoseg.training.cases import SecondStageCase, load_cases
from autoseg.training.checkpoint import RunState, save_state
from autoseg.training.learner import Learner
from autoseg.workspace import Workspace

QUIET = SilentProgress()
CPU = torch.device("cpu")
FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"


class Told(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def with_cascade(made: Plan) -> Plan:
    """The plan with small networks, a first stage at half the resolution, and a second stage."""
    small = {
        "patch_size": (8, 16, 16),
        "batch_size": 2,
        "strides": ((1, 1, 1), (2, 2, 2)),
        "kernel_sizes": ((3, 3, 3),) * 2,
        "features_per_stage": (4, 8),
        "blocks_per_stage": (1, 1),
        "blocks_per_stage_decoder": (1,),
        "steps_per_epoch": 2,
        "epochs": 1,
    }
    full = made.configuration("3d_fullres").model_copy(update=small)
    spacing = tuple(2 * size for size in full.spacing)
    low = full.model_copy(
        update={
            "name": FIRST,
            "preparation": full.preparation.model_copy(update={"spacing": spacing}),
            "spacing": spacing,
            "patch_size": (8, 8, 8),
            # enough to find something
            "steps_per_epoch": 20,
            "next_stage": SECOND,
        }
    )
    second = full.model_copy(update={"name": SECOND, "previous_stage": FIRST})
    training = made.training.model_copy(
        update={"warmup_steps": 0, "ema_decay": 0.0, "learning_rate": 0.02, "gradient_clip": 100.0}
    )
    entries = {entry.name: entry for entry in (low, full, second)}
    return signed(made.model_copy(update={"configurations": entries, "training": training}))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Path]) -> Workspace:
    """A work folder with a cascade planned, two folds, and nothing trained."""
    root = tmp_path_factory.mktemp("bare")
    make_dataset(root / "data", cases=4)
    work = Workspace(root / "work")
    plan(root / "data", work, device="cpu", probe=False, workers=0, progress=QUIET)
    write_record(work.plan(), with_cascade(read_record(work.plan(), Plan)))
    write_splits(work.splits, make_folds([f"case_{number:02d}" for number in range(4)], 2))
    return work


def run_every(work: Workspace, *names: str, **options: object) -> tuple[EveryReport, list[str]]:
    told = Told()
    report = train_every(work, configurations=names, options={"device": "cpu", "workers": 0, **options}, progress=told)
    return report, told.lines


def run(work: Workspace, configuration: str = SECOND, **options: object) -> TrainReport:
    return train(work, configuration=configuration, device="cpu", workers=0, progress=QUIET, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(bare: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Both folds of both stages, by one command."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copytree(bare.root, root / "work")
    work = Workspace(root / "work")
    report, lines = run_every(work, SECOND)
    assert report.failures == {}
    assert [(one.configuration, one.fold) for one in report.runs] == [
        *((FIRST, fold) for fold in "01"),
        *((SECOND, fold) for fold in "01"),
    ]
    assert all(one.model is not None and one.mean_dice is not None for one in report.runs)
    assert lines[0] == "4 of 4 runs are to be trained"
    return work


@pytest.fixture
def copied(trained: Workspace, tmp_path: Path) -> Workspace:
    shutil.copytree(trained.root, tmp_path / "work")
    return Workspace(tmp_path / "work")


def model_of(work: Workspace, configuration: str, fold: str) -> Path:
    return work.run("default", configuration, fold).model


def next_stage_of(work: Workspace, fold: str) -> Path:
    return work.run("default", FIRST, fold).next_stage


# --------------------------------------------------------------------------------------------------- the order


def test_a_second_stage_alone_names_the_commands_to_run(bare: Workspace) -> None:
    with pytest.raises(TrainingError) as caught:
        run(bare, fold="0")
    for fold in "01":
        assert f"autoseg train --configuration 3d_lowres --fold {fold} --work {bare.root}" in str(caught.value)
    assert f"autoseg train --fold every --configuration {SECOND} --work" in str(caught.value)


def test_each_fold_hands_on_its_held_out_cases(trained: Workspace) -> None:
    folds = read_splits(trained.splits)
    for fold in "01":
        stored = sorted(path.stem for path in next_stage_of(trained, fold).iterdir())
        assert stored == sorted(folds[int(fold)].val)
        found = [open_labels(path).read() for path in next_stage_of(trained, fold).iterdir()]
        assert all(set(np.unique(labels)) == {0, 1} for labels in found)


def test_the_same_command_leaves_what_is_finished_alone(copied: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.runs.rglob("*")}
    report, lines = run_every(copied, SECOND)
    assert lines == ["0 of 4 runs are to be trained, 4 are finished"]
    assert report.failures == {}
    assert {path: path.stat().st_mtime_ns for path in copied.runs.rglob("*")} == before


def test_predictions_that_are_missing_or_of_an_older_model_are_made(copied: Workspace) -> None:
    wanted = {path.name: open_labels(path).read() for path in next_stage_of(copied, "1").iterdir()}
    shutil.rmtree(next_stage_of(copied, "1"))
    old = next(next_stage_of(copied, "0").iterdir())
    stamp = old.stat().st_mtime_ns
    shutil.copy(model_of(copied, FIRST, "1"), model_of(copied, FIRST, "0"))  # as if it were trained anew
    shutil.rmtree(copied.run("default", SECOND, "0").folder)
    report = run(copied, fold="0")
    assert not report.failures
    found = {path.name: open_labels(path).read() for path in next_stage_of(copied, "1").iterdir()}
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)
    assert old.stat().st_mtime_ns != stamp


def test_a_damaged_prediction_is_made_anew(copied: Workspace) -> None:
    path = next(next_stage_of(copied, "0").iterdir())
    path.write_bytes(path.read_bytes()[:20])
    shutil.rmtree(copied.run("default", SECOND, "1").folder)
    assert not run(copied, fold="1").failures
    assert set(np.unique(open_labels(path).read())) == {0, 1}


def test_stages_that_do_not_fit_together_are_refused(bare: Workspace, tmp_path: Path) -> None:
    shutil.copytree(bare.root, tmp_path / "work")
    work = Workspace(tmp_path / "work")
    with pytest.raises(UsageError, match="no fold 5"):
        run(work, fold="5")
    made = read_plan(work)
    low = made.configurations[FIRST].model_copy(update={"next_stage": None})
    write_record(work.plan(), signed(made.model_copy(update={"configurations": {**made.configurations, FIRST: low}})))
    with pytest.raises(PlanError, match="next_stage of 3d_lowres"):
        run(work, fold="0")


# --------------------------------------------------------------------------------------- training and prediction


def held_out(work: Workspace, fold: int) -> str:
    return read_splits(work.splits)[fold].val[0]


@pytest.mark.parametrize("fold", ["0", "1"])
def test_a_held_out_case_is_seen_at_prediction_as_in_training(trained: Workspace, fold: str) -> None:
    case_id = held_out(trained, int(fold))
    second = read_plan(trained).configurations[SECOND]
    (stored,) = load_cases(
        trained.prepared_folder(second.preparation),
        [case_id],
        {case_id: next_stage_of(trained, fold) / f"{case_id}.b2nd"},
    )
    # in the precision of the training: near ties of a hardly trained network fall differently in another one
    model = load_models([model_of(trained, SECOND, fold)], CPU, choose_precision("auto", CPU))
    case = next(case for case in read_dataset(trained).cases if case.id == case_id)
    (image,) = seen_images(model, prepare_volume(model, case_id, read_image(case.images)))
    box = tuple(slice(0, size) for size in stored.shape)
    wanted, _ = stored.read_patch((box[0], box[1], box[2]))
    assert image.shape == wanted.shape
    assert set(np.unique(image[-1])) == {0, 1}
    np.testing.assert_array_equal(image, wanted)


def test_patches_from_disk_are_those_from_memory(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained.prepared_folder(read_plan(trained).configurations[SECOND].preparation)
    maps = {path.stem: path for fold in "01" for path in next_stage_of(trained, fold).iterdir()}
    in_memory = load_cases(folder, sorted(maps), maps)
    monkeypatch.setattr(cases_module, "MEMORY_SHARE", 0.0)
    on_disk = load_cases(folder, sorted(maps), maps)
    assert all(isinstance(case, SecondStageCase) for case in on_disk)
    box = (slice(2, 9), slice(3, 12), slice(0, 7))
    for here, there in zip(in_memory, on_disk, strict=True):
        for one, other in zip(here.read_patch(box), there.read_patch(box), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        assert here.shape == there.shape
        np.testing.assert_array_equal(here.read_labels(), there.read_labels())


def test_one_file_holds_both_stages_and_predicts_anywhere(bare: Workspace, trained: Workspace, tmp_path: Path) -> None:
    header = read_header(model_of(trained, SECOND, "0"))
    assert {member.name: member.previous_stage for member in header.members} == {
        f"{SECOND}.fold_0": f"{FIRST}.fold_0",
        f"{FIRST}.fold_0": None,
    }
    model = tmp_path / "elsewhere" / "model.safetensors"
    model.parent.mkdir()
    shutil.copy(model_of(trained, SECOND, "0"), model)
    images = bare.root.parent / "data" / "imagesTs"
    report = predict(images, tmp_path / "masks", models=(model,), device="cpu", progress=QUIET)
    assert list(report.written) == ["test_00"]
    mask, image = nibabel.load(report.written["test_00"]), nibabel.load(images / "test_00_0000.nii.gz")
    assert mask.shape == image.shape
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1}
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["model.safetensors"]
    beside = {"labels.ctbl", "predictions.json", "receipts.json", "review.csv", "volumes.csv"}
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {*beside, "test_00.nii.gz"}


@pytest.mark.parametrize("name", ["unetpp", pytest.param("segresnet", marks=pytest.mark.slow)])
def test_other_networks_can_be_both_stages(name: str, bare: Workspace, tmp_path: Path) -> None:
    shutil.copytree(bare.root, tmp_path / "work")
    work = Workspace(tmp_path / "work")
    made = read_plan(work)
    entries = {
        key: entry.model_copy(update={"network": name, "steps_per_epoch": 2})
        for key, entry in made.configurations.items()
    }
    write_record(work.plan(), signed(made.model_copy(update={"configurations": entries})))
    report, _ = run_every(work, SECOND)
    assert report.failures == {}
    images = bare.root.parent / "data" / "imagesTs"
    found = predict(images, tmp_path / "masks", models=(model_of(work, SECOND, "0"),), device="cpu", progress=QUIET)
    assert list(found.written) == ["test_00"]
    model = load_models([model_of(work, SECOND, "0")], CPU, "float32")
    weights = [tensor for tensor in model.groups[0].networks[0].state_dict().values() if tensor.ndim == 5]
    assert weights[0].shape[1] == 2  # the image, and the one label that the first stage may find


def test_the_first_stage_decides_what_the_second_sees(trained: Workspace) -> None:
    """With another first stage the second gets other channels: they are not ignored on the way."""
    model = load_models([model_of(trained, SECOND, "0")], CPU, "float32")
    case = read_dataset(trained).cases[0]
    prepared = prepare_volume(model, case.id, read_image(case.images))
    (before,) = seen_images(model, prepared)
    group = model.groups[0].first_stage
    assert group is not None
    head = [tensor for name, tensor in group.networks[0].state_dict().items() if name.endswith("bias")][-1]
    head += torch.tensor([100.0, 0.0])
    (after,) = seen_images(model, prepared)
    assert before[-1].any()
    assert not after[-1].any()
    np.testing.assert_array_equal(before[:-1], after[:-1])


def test_folds_together_see_the_mean_of_the_first_stages(trained: Workspace) -> None:
    files = [model_of(trained, SECOND, fold) for fold in "01"]
    model = load_models(files, CPU, "float32")
    assert model.description == f"{SECOND} x 2 after {FIRST} x 2"
    twice = load_models([*files, model_of(trained, FIRST, "0")], CPU, "float32")
    assert twice.description == f"{SECOND} x 2 after {FIRST} x 2 + {FIRST} x 1, probabilities averaged"


def test_all_cases_use_every_fold_of_the_first_stage(copied: Workspace, tmp_path: Path) -> None:
    report = run(copied, fold="all")
    assert report.summary is None
    header = read_header(report.run.model)
    assert [(member.name, member.previous_stage) for member in header.members] == [
        (f"{SECOND}.fold_all", FIRST),
        (f"{FIRST}.fold_0", None),
        (f"{FIRST}.fold_1", None),
    ]
    assert load_models([report.run.model], CPU, "float32").description == f"{SECOND} x 1 after {FIRST} x 2"
    together = load_models([report.run.model, model_of(copied, SECOND, "0")], CPU, "float32")
    assert together.description == f"{SECOND} x 2 after {FIRST} x 2"  # no first stage counts twice


def test_an_interrupted_second_stage_ends_bit_identical(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copied.run("default", SECOND, "0").folder)
    weights = load_file(run(copied, fold="0", epochs=3, seed=5).run.model)
    shutil.rmtree(copied.run("default", SECOND, "0").folder)
    step, count = Learner.step, 0

    def interrupted(self: Learner, *words: object) -> float | None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return step(self, *words)  # type: ignore[arg-type]

    monkeypatch.setattr(Learner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(copied, fold="0", epochs=3, seed=5)
    monkeypatch.setattr(Learner, "step", step)
    again = load_file(run(copied, fold="0").run.model)
    assert weights.keys() == again.keys()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_budget_counts_both_stages(copied: Workspace) -> None:
    shutil.rmtree(copied.run("default", SECOND, "0").folder)
    report = run(copied, fold="0", budget_seconds=6.0)
    assert report.steps > 2
    assert report.seconds["total"] < 12  # twice the budget: this machine may be busy


# ----------------------------------------------------------------------------------------------------- every fold


def test_stages_come_in_order(bare: Workspace) -> None:
    made = read_plan(bare)
    turned = made.model_copy(update={"configurations": dict(reversed(made.configurations.items()))})

    def names(*asked: str) -> list[str]:
        return [entry.name for entry in in_order(turned, asked)]

    assert names() == ["3d_fullres", FIRST, SECOND]
    assert names(SECOND) == [FIRST, SECOND]
    assert names("3d_fullres") == ["3d_fullres"]
    with pytest.raises(PlanError, match="no configuration"):
        names("4d")


def probe_of(*configurations: Configuration) -> Probe:
    steps = tuple(
        StepProbe(configuration=entry.name, fits=True, seconds_per_step=2.0, limit_bytes=1) for entry in configurations
    )
    return Probe(plan="default", device="cpu", precision="float32", free_bytes=1, steps=steps)


def test_the_cost_comes_first_and_a_failure_stops_no_other(
    bare: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Workspace(tmp_path / "work")
    shutil.copytree(bare.root, work.root)
    write_record(work.probe(), probe_of(*read_plan(work).configurations.values()))
    asked: list[tuple[object, object]] = []

    def failing(_work: Workspace, **options: object) -> TrainReport:
        asked.append((options["configuration"], options["fold"]))
        if options["fold"] == "0":
            raise TrainingError("the loss was not finite")
        raise RuntimeError("odd")

    monkeypatch.setattr("autoseg.pipeline.every.train", failing)
    report, lines = run_every(work, epochs=10)
    assert asked == [(name, fold) for name in (FIRST, "3d_fullres", SECOND) for fold in "01"]
    assert lines[:5] == [
        "6 of 6 runs are to be trained",
        "  3d_lowres: 2 x 10 epochs of 20 steps, 2.1 s per step = 14 min",
        "  3d_fullres: 2 x 10 epochs of 2 steps, 2.1 s per step = 84 s",
        "  3d_cascade_fullres: 2 x 10 epochs of 2 steps, 2.1 s per step = 84 s",
        "Together about 17 min; preparing and scoring come on top",
    ]
    assert len(report.failures) == 6
    assert report.failures["3d_lowres, fold 0"] == "the loss was not finite"
    assert "unexpected RuntimeError: odd" in report.failures["3d_fullres, fold 1"]
    _, lines = run_every(work, "3d_fullres", budget_seconds=1800.0)
    assert lines[1:3] == ["  3d_fullres: 2 x a budget of 30 min = 60 min", "Together about 60 min"]
    begun = work.run("default", "3d_fullres", 0)
    network = torch.nn.Linear(1, 1)
    state = RunState(epoch=5, step=10, seconds=900.0, overhead_seconds=60.0)
    save_state(begun.state_tensors, state, network, torch.optim.SGD(network.parameters(), 0.1), {})
    _, lines = run_every(work, "3d_fullres", budget_seconds=1800.0)
    assert lines[1] == "  3d_fullres: 2 x a budget of 30 min = 60 min, 16 min of which are done"
    assert lines[2] == "Together about 44 min"
    _, lines = run_every(work, "3d_fullres", epochs=10)
    assert lines[1] == "  3d_fullres: 2 x 10 epochs of 2 steps, 2.1 s per step = 84 s, 21 s of which are done"
    assert lines[2] == "Together about 63 s; preparing and scoring come on top"
    work.probe().unlink()
    _, lines = run_every(work, "3d_fullres")
    assert lines[2].startswith("Together unknown (a step is tried by `autoseg plan`)")


def test_a_person_who_ends_a_run_ends_the_series(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def ended(work: Workspace, **options: object) -> TrainReport:
        asked.append(options["fold"])
        entry = work.run("default", "3d_fullres", "0")
        return TrainReport(entry, 1, 2, {}, None, ended_early="ended early at step 2 by --patience/STOP")

    monkeypatch.setattr("autoseg.pipeline.every.train", ended)
    report, _ = run_every(copied)
    assert asked == ["0"]
    assert report.ended_early == "3d_fullres, fold 0 ended early at step 2 by --patience/STOP"


def test_a_stop_file_ends_the_series_also_while_a_run_is_scored(
    copied: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    copied.stop.touch()  # one that was there before is not meant

    def trained_and_scored(work: Workspace, **options: object) -> TrainReport:
        asked.append(options["fold"])
        if options["configuration"] == "3d_fullres":
            work.stop.unlink()
            work.stop.touch()
        return TrainReport(work.run("default", "3d_fullres", "0"), 1, 2, {}, None)

    monkeypatch.setattr("autoseg.pipeline.every.train", trained_and_scored)
    words = ["train", "--work", str(copied.root), "--fold", "every", "--configuration", "3d_fullres", "--epochs", "9"]
    assert main(words) == 0
    assert asked == ["0"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "The series has ended: a file STOP was made before 3d_fullres, fold 1. The same command goes on." in shown


def test_a_finished_run_whose_state_was_removed_stays_finished(copied: Workspace) -> None:
    for entry in copied.all_runs():
        entry.state_tensors.unlink()
        entry.kept_state.unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in copied.runs.rglob("*")}
    _, lines = run_every(copied, SECOND)
    assert lines == ["0 of 4 runs are to be trained, 4 are finished"]
    assert {path: path.stat().st_mtime_ns for path in copied.runs.rglob("*")} == before


def test_a_run_that_patience_ends_does_not_end_the_series(copied: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def ended(work: Workspace, **options: object) -> TrainReport:
        asked.append(options["fold"])
        entry = work.run("default", "3d_fullres", "0")
        return TrainReport(entry, 1, 2, {}, None, ended_early="ended early at step 2", by_patience=True)

    monkeypatch.setattr("autoseg.pipeline.every.train", ended)
    report, _ = run_every(copied, "3d_fullres")
    assert asked == ["0", "1"]
    assert report.ended_early == ""


def test_a_longer_run_is_not_taken_for_finished(copied: Workspace) -> None:
    report, lines = run_every(copied, FIRST, epochs=2)
    assert lines[0] == "2 of 2 runs are to be trained"
    assert report.failures == {}
    metrics = copied.run("default", FIRST, "0").metrics.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == [0, 1]


def test_the_command_line_reaches_every_fold(bare: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_work: Workspace, **options: object) -> TrainReport:
        raise TrainingError(f"no luck with {options['configuration']}, {options['overrides']}")

    monkeypatch.setattr("autoseg.pipeline.every.train", failing)
    words = ["train", "--work", str(bare.root), "--set", "seed=3", "--configuration", FIRST]
    assert main([*words, "--configuration", "3d_fullres", "--fold", "every"]) == 2
    assert main([*words, "--configuration", "3d_fullres", "--fold", "0"]) == 1
    assert main([*words, "--fold", "every", "--init", "model.safetensors"]) == 1


def test_the_command_line_tells_what_failed(
    bare: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(_work: Workspace, **options: object) -> TrainReport:
        raise TrainingError("no luck")

    monkeypatch.setattr("autoseg.pipeline.every.train", failing)
    assert main(["train", "--work", str(bare.root), "--fold", "every", "--configuration", "3d_fullres"]) == 2
    shown = capsys.readouterr().out
    assert "2 failures:" in shown
    assert "3d_fullres, fold 1: no luck" in shown
    assert "0 of 2" in shown
