from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from selection_builders import LABELS, a_work, finished, finished_cascade, finished_folds, simple_networks  # noqa: F401
from volume_builders import Told

from autoseg.cli import main
from autoseg.dataset.readers import read_labels
from autoseg.errors import ModelError, UsageError
from autoseg.files import read_record
from autoseg.inference.predictor import load_models
from autoseg.model_file import read_header, write_model
from autoseg.pipeline.bundle import bundled
from autoseg.pipeline.candidates import Candidate, find_candidates, single
from autoseg.pipeline.choosing_model import choose_models
from autoseg.pipeline.predict import predict
from autoseg.pipeline.reports import SelectReport
from autoseg.pipeline.select import SelectSettings, select
from autoseg.pipeline.status import status
from autoseg.progress import SilentProgress
from autoseg.records import Dataset, PredictSettings, Selection
from autoseg.workspace import Workspace


def selected(work: Workspace, **settings: object) -> SelectReport:
    chosen = SelectSettings(**settings)  # type: ignore[arg-type]
    return select(work, settings=chosen, device="cpu", workers=0, progress=SilentProgress())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, simple_networks: None) -> tuple[Workspace, SelectReport]:  # noqa: F811
    """A work folder in which two configurations together are better than either, and its selection; to be read only."""
    work = a_work(tmp_path_factory.mktemp("pair"))
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3})
    return work, selected(work)


def test_an_ensemble_is_chosen_where_it_is_surely_better(pair: tuple[Workspace, SelectReport]) -> None:
    work, report = pair
    chosen, *others = report.selection.compared
    assert chosen.name == "2d + 3d_fullres"
    assert (chosen.networks, chosen.cases) == (2, 8)
    assert {row.verdict for row in others} == {"worse"}
    assert all(row.gain is not None and row.gain < 0 and row.shared_cases == 8 for row in others)
    names = [member.name for member in report.header.members]
    assert len(names) == 8
    assert {name.partition(".")[0] for name in names} == {"2d", "3d_fullres"}
    assert report.header.combine == "probabilities"
    # each case by the networks that had not seen it, and nothing but masks is kept
    kept = {path.name for path in work.ensemble("2d+3d_fullres").iterdir()}
    assert kept == {*(f"case_{number:02d}.nii.gz" for number in range(8)), "predictions.json", "summary.json"}


def test_the_bundle_predicts_as_its_members_together(pair: tuple[Workspace, SelectReport], tmp_path: Path) -> None:
    work, report = pair
    image = work.root.parent / "data" / "imagesTs" / "new_0000.nii.gz"
    runs = tuple(run.model for run in work.all_runs())
    parts = predict(image, tmp_path / "parts", models=runs, device="cpu", progress=SilentProgress())
    told = Told()
    whole = predict(image, tmp_path / "whole", work=work, device="cpu", progress=told)
    ours, theirs = (read_labels(done.masks["new"]).labels for done in (whole, parts))
    speck = np.zeros(ours.shape, dtype=bool)
    speck[12:14, 14:16, 15:17] = True
    assert [step.label for step in report.header.post_processing] == [None]
    assert (theirs[speck] == 1).all()
    assert (ours[speck] == 0).all()
    np.testing.assert_array_equal(ours[~speck], theirs[~speck])
    assert f"Model: {work.model}" in told.text
    as_found = predict(
        image,
        tmp_path / "as found",
        work=work,
        device="cpu",
        settings=PredictSettings(post_process=False),
        progress=SilentProgress(),
    )
    np.testing.assert_array_equal(read_labels(as_found.masks["new"]).labels, theirs)
    assert load_models([work.model], torch.device("cpu"), "float32").header.post_processing


def test_a_tie_goes_to_the_simpler_one(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.0, "2d": -0.3})
    report = selected(work)
    assert report.selection.chosen == "3d_fullres"
    assert report.header.combine == "scores"
    assert len(report.header.members) == 4


def test_what_keeping_the_largest_component_gained_is_kept(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.0})
    report = selected(work)
    tried = {entry.step.label: entry for entry in report.selection.post_processing}
    # the speck is grey: taking all foreground together removes it, and then nothing is left to gain
    assert tried[None].kept
    assert not tried["grey"].kept
    assert (tried[None].step.better, tried[None].step.worse) == (8, 0)
    assert report.header.post_processing == (tried[None].step,)
    assert report.header.card is not None
    assert report.header.card.mean_dice == pytest.approx(1.0)  # measured after it
    assert tried[None].step.dice_before < 0.995


def test_a_cascade_runs_two_networks_and_brings_its_first_stage(tmp_path: Path) -> None:
    work = a_work(tmp_path, cases=6, folds=3)
    finished_folds(work, {"3d_lowres": 0.35, "2d": -0.3}, folds=3)
    for fold in range(3):
        finished_cascade(work, fold)
    report = selected(work)
    networks = {row.name: row.networks for row in report.selection.compared}
    assert networks == {
        "3d_lowres": 1,
        "2d": 1,
        "3d_cascade_fullres": 2,
        "2d + 3d_lowres": 2,
        "2d + 3d_cascade_fullres": 3,  # but not the cascade with its own first stage
    }
    assert report.selection.chosen == "2d + 3d_lowres"
    bundle = bundled(single_of(work, "3d_cascade_fullres"))
    write_model(tmp_path / "cascade.safetensors", bundle.header, bundle.tensors)
    image = tmp_path / "data" / "imagesTs" / "new_0000.nii.gz"
    masks = {}
    for name, models in (
        ("one file", (tmp_path / "cascade.safetensors",)),
        ("three files", tuple(work.run("default", "3d_cascade_fullres", fold).model for fold in range(3))),
    ):
        done = predict(image, tmp_path / name, models=models, device="cpu", progress=SilentProgress())
        masks[name] = read_labels(done.masks["new"]).labels
    np.testing.assert_array_equal(masks["one file"], masks["three files"])
    assert set(np.unique(masks["one file"])) == {0, 1, 4}


def single_of(work: Workspace, name: str) -> Candidate:
    dataset = read_record(work.dataset, Dataset)
    (part,) = find_candidates(work, dataset, configurations=(name,)).configured
    return single(part, {case.id: case for case in dataset.cases})


def test_any_folds_that_are_done_are_enough(tmp_path: Path) -> None:
    work = a_work(tmp_path, folds=4)
    for fold in (0, 2):
        finished(work, "3d_fullres", fold, 0.0, ended_early="ended early at step 7 by Ctrl-C" if fold else "")
    finished(work, "2d", 2, -0.3)
    finished(work, "2d", "all", 0.0)  # scored on what it was trained on: as good as it looks it must not be
    assert "3d_fullres" in choose_models((), work)[1]  # nor by who predicts without a selection
    unscored = finished(work, "2d", 1, 0.0)
    unscored.summary.unlink()
    report = selected(work)
    assert report.selection.chosen == "3d_fullres"
    assert set(report.selection.left_out) == {"2d, fold all", "2d, fold 1"}
    assert "holds no case out" in report.selection.left_out["2d, fold all"]
    assert [member.name for member in report.header.members] == ["3d_fullres.fold_0", "3d_fullres.fold_2"]
    assert report.header.card is not None
    assert (report.header.card.cases, report.header.card.folds) == (4, 2)
    assert report.header.card.ended_early == ("3d_fullres, fold 2, ended early at step 7 by Ctrl-C",)
    assert report.header.ended_early == "ended early at step 7 by Ctrl-C"
    pair = next(row for row in report.selection.compared if "+" in row.name)
    assert pair.shared_cases == 2
    assert "too few cases" in pair.verdict or pair.verdict == "worse"


def test_nothing_that_tells_of_cases_or_machines_is_in_the_file(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"2d": 0.0})
    for fold in range(4):
        finished(work, "2d", fold, 0.1, plan_name="secret-clinic")
    selected(work)
    text = read_header(work.model).model_dump_json()
    for secret in ("case_0", str(tmp_path), tmp_path.name, os.uname().nodename, "secret", "20[0-9][0-9]-"):
        assert not re.search(secret, text), secret
    assert "2d (secret-clinic)" in work.selection.read_text()  # at home it may be named


def test_the_same_selection_says_the_same_and_goes_on_from_its_masks(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3})
    selected(work)
    first, masks = read_header(work.model), sorted(work.ensemble("2d+3d_fullres").glob("*.nii.gz"))
    before = [path.stat().st_mtime_ns for path in masks]
    selected(work)
    assert [path.stat().st_mtime_ns for path in masks] == before
    again = read_header(work.model)
    unmeasured = {"speeds": ()}  # but for the seconds, which no two runs share
    assert again.model_copy(update=unmeasured) == first.model_copy(update=unmeasured)
    assert [mode.mean_dice for mode in again.speeds] == [mode.mean_dice for mode in first.speeds]


def test_masks_of_a_model_that_was_trained_on_are_made_anew(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3})
    selected(work)
    changed = finished(work, "2d", 1, -0.25)
    masks = {path.name: path.stat().st_mtime_ns for path in work.ensemble("2d+3d_fullres").glob("*.nii.gz")}
    selected(work)
    now = {path.name: path.stat().st_mtime_ns for path in work.ensemble("2d+3d_fullres").glob("*.nii.gz")}
    anew = {name.partition(".")[0] for name in masks if now[name] != masks[name]}
    assert anew == {path.name.partition(".")[0] for path in changed.validation.glob("*.nii.gz")}


def test_a_model_file_that_no_selection_wrote_is_kept(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    run = finished(work, "3d_fullres", 0, 0.0)
    work.model.write_bytes(run.model.read_bytes())
    with pytest.raises(UsageError, match="is kept"):
        selected(work)
    assert work.model.read_bytes() == run.model.read_bytes()
    work.model.unlink()
    selected(work)
    selected(work)  # its own it may replace


def test_a_bundle_that_is_behind_its_trainings_is_noted(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished(work, "3d_fullres", 0, 0.0)
    selected(work)
    image = tmp_path / "data" / "imagesTs" / "new_0000.nii.gz"

    def told() -> str:
        heard = Told()
        predict(image, tmp_path / "masks", work=work, device="cpu", progress=heard)
        return heard.text

    assert "trained since" not in told()
    newer = finished(work, "3d_fullres", 1, 0.0)
    os.utime(newer.model, ns=(work.model.stat().st_mtime_ns + 10**9,) * 2)
    assert "3d_fullres fold 1" in told()
    assert told().count("trained since") == 1


def test_a_work_folder_stands_for_its_bundle(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.0})
    assert len(choose_models((work.root,), None)[0]) == 4
    selected(work)
    assert choose_models((work.root,), None)[0] == [work.model]
    assert "3d_fullres x 4; mean Dice of 8 held-out cases 1.000" in choose_models((), work)[1]
    assert "keeps the largest component of all foreground" in choose_models((), work)[1]


def test_status_names_select_and_what_was_selected(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished(work, "3d_fullres", 0, 0.0)
    assert status(work).next_command.startswith("autoseg predict")
    finished(work, "3d_fullres", 1, 0.0)
    assert status(work).next_command == f"autoseg select --work {work.root}"
    selected(work)
    told = status(work)
    assert told.next_command == f"autoseg predict IMAGES MASKS --work {work.root}"
    assert dict(told.lines)["selected model"].startswith("3d_fullres x 2; mean Dice")


def test_nothing_trained_is_told_with_the_command(tmp_path: Path) -> None:
    work = a_work(tmp_path, cases=4, folds=2)
    finished(work, "2d", 0, 0.0).summary.unlink()
    with pytest.raises(ModelError, match="autoseg train --fold 0") as caught:
        selected(work)
    assert "not scored yet" in str(caught.value)
    assert not work.model.exists()


def test_fewer_cases_of_each_fold(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3})
    report = selected(work, cases_per_fold=1)
    pair = next(row for row in report.selection.compared if "+" in row.name)
    assert pair.cases == 4
    assert pair.verdict == "too few cases to tell (4 of 6): the simpler one is chosen"


def test_a_budget_leaves_out_by_name_what_does_not_fit(tmp_path: Path) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3})
    report = selected(work, budget_seconds=0.01)
    assert set(report.notes) >= {
        "2d + 3d_fullres was not predicted: no time was left for it in the budget",
        "probabilities are not calibrated: that takes 4 held-out cases or more, and 0 were examined",
        "Dice of new masks will not be foretold: that takes 20 examined cases with a mask of a label",
        "the speed of fast, balanced, best was not measured: no time was left in the budget",
    }
    assert report.selection.chosen in ("2d", "3d_fullres")
    assert report.header.card is not None
    assert (report.header.calibration, report.header.speeds) == (None, ())
    (note,) = selected(work, ensembles=False).notes
    assert note.startswith("Dice of new masks will not be foretold")


def test_speeds_and_calibration_are_measured(pair: tuple[Workspace, SelectReport]) -> None:
    header = pair[1].header
    assert [mode.name for mode in header.speeds] == ["fast", "balanced", "best"]
    assert all(mode.cases == 8 and mode.device for mode in header.speeds)
    assert all((mode.seconds_per_case or 0) > (mode.seconds_per_million_voxels or 1) * 0.001 for mode in header.speeds)
    assert header.card is not None
    assert header.speeds[-1].mean_dice == pytest.approx(header.card.mean_dice)
    # fast runs one of the two configurations, and is as good as that one alone
    alone = {row.name: row.mean_dice for row in header.card.compared}
    assert header.speeds[0].mean_dice is not None
    assert header.speeds[0].mean_dice < (header.card.mean_dice or 0) - 0.01
    assert header.speeds[0].settings.members[0].partition(".")[0] == max(("2d", "3d_fullres"), key=alone.__getitem__)
    assert header.calibration is not None
    (entry,) = header.calibration.temperatures
    assert (header.calibration.fitted_on, header.calibration.reported_on) == (4, 4)
    assert entry.value < 1  # this network is never as sure as it might be
    assert entry.after.ece < entry.before.ece
    assert entry.after.nll < entry.before.nll


def test_regions_are_selected_and_calibrated_each(tmp_path: Path) -> None:
    work = a_work(tmp_path, cases=6, folds=3, labels={"background": 0, "whole": [1, 4], "core": 4})
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3}, folds=3)
    header = selected(work).header
    assert header.calibration is not None
    assert [entry.name for entry in header.calibration.temperatures] == ["whole", "core"]
    assert header.card is not None
    assert [label.name for label in header.card.labels] == ["whole", "core"]
    image = tmp_path / "data" / "imagesTs" / "new_0000.nii.gz"
    done = predict(image, tmp_path / "masks", work=work, device="cpu", progress=SilentProgress())
    assert set(np.unique(read_labels(done.masks["new"]).labels)) == {0, 1, 4}


def test_select_and_info_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"3d_fullres": 0.35, "2d": -0.3})
    assert main(["select", "--work", str(work.root), "--device", "cpu", "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "1 ensemble to predict, 2 s" in said.err
    assert "8 held-out cases, about 2 s" in said.err
    for words in ("2d + 3d_fullres", "kept", "Chosen: 2d + 3d_fullres", "autoseg predict IMAGES MASKS"):
        assert words in said.out
    assert main(["info", "--work", str(work.root)]) == 0
    shown = capsys.readouterr().out
    for words in ("95 % interval", "8 held-out cases", "the largest component of", "Limits", "Its dataset has 8 cases"):
        assert words in shown
    assert main(["info", str(work.model), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["header"]["labels"]["names"] == [[name, value] for name, value in LABELS.items()]
    assert record["header"]["card"]["cases"] == 8
    assert sum(record["parameters"].values()) == 8
    assert main(["info", str(work.run("default", "2d", 0).model)]) == 0
    assert "The file holds no scores" in capsys.readouterr().out
    assert main(["info", "--work", str(tmp_path / "none")]) == 1


def test_info_calls_plans_by_their_names_where_the_model_was_selected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = a_work(tmp_path)
    finished_folds(work, {"2d": -0.3})
    for fold in range(4):
        finished(work, "2d", fold, 0.6, plan_name="xyzzy")
    assert "2d (xyzzy)" in {row.name for row in selected(work, ensembles=False).selection.compared}
    assert main(["info", "--work", str(work.root)]) == 0
    shown = capsys.readouterr().out
    assert "2d (xyzzy)" in shown
    assert "(plan 2)" not in shown
    elsewhere = work.model.rename(tmp_path / "sent.safetensors")
    assert main(["info", str(elsewhere), "--work", str(tmp_path / "none")]) == 0
    shown = capsys.readouterr().out
    assert "2d (plan 2)" in shown
    assert "Plans are numbered" in shown
    assert "xyzzy" not in shown


def test_the_record_of_a_selection_names_what_was_known(tmp_path: Path) -> None:
    work = a_work(tmp_path, cases=4, folds=2)
    finished_folds(work, {"3d_fullres": 0.0}, folds=2)
    selected(work)
    record = read_record(work.selection, Selection)
    assert set(record.members) == {"runs/default/3d_fullres/fold_0", "runs/default/3d_fullres/fold_1"}
    assert record.members == record.known
