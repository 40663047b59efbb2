"""The trainings of a diagnosis: nested parts, one set of held-out cases, a folder in which nothing is renumbered."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from step_builders import make_configuration, make_plan_of

from autoseg.dataset.folds import read_splits
from autoseg.errors import UsageError, WorkspaceError
from autoseg.files import read_record, write_record
from autoseg.pipeline.plans import read_plan
from autoseg.pipeline.suspects import suspicious_cases
from autoseg.pipeline.trials import (
    CLEANED,
    FRACTIONS,
    Length,
    folder_of,
    laid_out,
    lay_out,
    most_trials,
    nested,
    shuffled,
    trials_of,
)
from autoseg.records import Audit, AuditedCase, DiagnosisDesign, Fold, Probe, StepProbe
from autoseg.workspace import Workspace

CASES = tuple(f"case_{number:02d}" for number in range(20))
SPLIT = Fold(train=CASES[:16], val=CASES[16:])
ENTRY = make_configuration(next_stage=None)
PLAN = make_plan_of(ENTRY)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=40), st.integers(0, 5))
def test_parts_are_nested_and_patients_stay_together(patients: list[str], seed: int) -> None:
    patient_of = {f"{number:02d}": patient for number, patient in enumerate(patients)}
    order = shuffled(list(patient_of), patient_of, seed)
    assert sorted(order) == sorted(patient_of)
    runs = [patient_of[case] for case in order]
    assert sum(a != b for a, b in pairwise(runs)) == len(set(patients)) - 1
    small, half, whole = (nested(order)[fraction] for fraction in FRACTIONS)
    assert 2 <= len(small) < len(half) < len(whole) == len(patients)
    assert set(small) < set(half) < set(whole)
    assert len(half) == pytest.approx(len(whole) / 2, abs=0.51)


def test_orders_differ_by_seed_and_are_the_same_again() -> None:
    orders = [shuffled(CASES, {}, seed) for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert shuffled(CASES[::-1], {}, 0) == orders[0]  # however the cases are listed


def test_every_training_is_scored_with_the_same_cases() -> None:
    trials = trials_of(SPLIT, {}, 3, ("case_03", "case_05"))
    assert len(trials) == most_trials(3) == 18
    assert {trial.split.val for trial in trials} == {SPLIT.val}
    assert [trial.seed for trial in trials] == sorted(trial.seed for trial in trials)  # whole seeds come first
    assert [len(trial.split.train) for trial in trials[:6]] == [16, 8, 4, 16, 16, 14]
    assert [trial.plan for trial in trials[:6]] == ["default", "default", "default", "smaller", "larger", "default"]
    assert trials[5].part == CLEANED
    assert not {"case_03", "case_05"} & set(trials[5].split.train)
    without = trials_of(SPLIT, {}, 3, ())
    assert len(without) == 15
    with pytest.raises(UsageError, match="7 training cases are too few"):
        trials_of(Fold(train=CASES[:7], val=SPLIT.val), {}, 3, ())


def test_numbers_stay_when_trials_are_added(tmp_path: Path) -> None:
    folder = folder_of(Workspace(tmp_path), "default", "3d_fullres", "0", Length(seconds=60.0).word)
    assert folder.root == tmp_path / "diagnosis" / "default-3d_fullres-fold_0-60s"
    first = trials_of(SPLIT, {}, 1, ())
    layout = laid_out(folder, PLAN, ENTRY, first)
    assert not folder.root.exists()  # to look is to write nothing
    lay_out(folder, layout, "abc", tmp_path / "probe.json")
    later = trials_of(SPLIT, {}, 2, CASES[:1])
    again = laid_out(folder, PLAN, ENTRY, later)
    lay_out(folder, again, "abc", tmp_path / "probe.json")
    assert list(again.trials[: len(first)]) == first
    assert set(again.trials) == {*first, *later}
    assert list(read_splits(folder.splits)) == [trial.split for trial in again.trials]
    assert read_record(folder.root / "design.json", DiagnosisDesign).trials == again.trials
    plans = [read_plan(folder, name).configurations["3d_fullres"].features_per_stage for name in again.plans]
    assert plans == [(4, 8), (2, 4), (6, 12)]


def test_a_folder_of_another_plan_split_or_data_is_kept(tmp_path: Path) -> None:
    folder = folder_of(Workspace(tmp_path), "default", "3d_fullres", "0", "60s")
    trials = trials_of(SPLIT, {}, 1, ())
    layout = laid_out(folder, PLAN, ENTRY, trials)
    lay_out(folder, layout, "abc", tmp_path / "probe.json")
    other = ENTRY.model_copy(update={"batch_size": 3})
    with pytest.raises(WorkspaceError, match="was begun by another plan"):
        laid_out(folder, make_plan_of(other), other, trials)
    moved = trials_of(Fold(train=SPLIT.train, val=SPLIT.val[1:]), {}, 1, ())
    with pytest.raises(WorkspaceError, match="with other held-out cases"):
        laid_out(folder, PLAN, ENTRY, moved)
    with pytest.raises(WorkspaceError, match="with other images or labels"):
        lay_out(folder, laid_out(folder, PLAN, ENTRY, trials), "abd", tmp_path / "probe.json")


def test_the_folder_shares_cases_and_the_file_that_stops(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    folder = folder_of(work, "default", "3d_fullres", "0", "60s")
    for shared in ("dataset", "fingerprint", "prepared", "stop"):
        assert getattr(folder, shared) == getattr(work, shared)
    assert folder.runs != work.runs
    assert folder.splits != work.splits
    step = StepProbe(configuration="3d_fullres", fits=True, seconds_per_step=0.5, limit_bytes=10)
    write_record(work.probe(), Probe(plan="default", device="cpu", precision="float32", free_bytes=1, steps=(step,)))
    lay_out(folder, laid_out(folder, PLAN, ENTRY, trials_of(SPLIT, {}, 1, ())), "a", work.probe())
    assert read_record(folder.probe(), Probe).steps == (step,)


# ------------------------------------------------------------------------------------------------------- suspicious


def audited(work: Workspace, suspicion: dict[str, float]) -> None:
    cases = tuple(
        AuditedCase(case=case, fold="1", suspicion=value, label="organ")
        for case, value in sorted(suspicion.items(), key=lambda entry: -entry[1])
    )
    write_record(work.audit / "audit.json", Audit(models="3d_fullres", cases=cases, thresholds={}))


def test_the_most_suspicious_training_cases_are_set_aside(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    found, note = suspicious_cases(work, SPLIT)
    assert found == ()
    assert "there is no audit" in note
    assert "autoseg audit" in note
    audited(work, {CASES[17]: 9.0})  # held out
    assert "looked at none of these" in suspicious_cases(work, SPLIT)[1]
    audited(work, {CASES[1]: 2.9, CASES[2]: 0.1})
    assert (
        suspicious_cases(work, SPLIT)[1] == "no references were set aside: of 2 that were looked at none is suspicious"
    )
    audited(work, {CASES[1]: 5.0, CASES[2]: 0.1, CASES[17]: 9.0})
    found, note = suspicious_cases(work, SPLIT)
    assert found == (CASES[1],)
    assert note.startswith("1 of the held-out cases are suspicious too")
    audited(work, {case: 4.0 + place for place, case in enumerate(CASES[:8])})
    assert suspicious_cases(work, SPLIT) == ((CASES[7],), "")  # a tenth of sixteen, the worst
    (work.audit / "audit.json").write_text("{")
    assert suspicious_cases(work, SPLIT)[0] == ()
