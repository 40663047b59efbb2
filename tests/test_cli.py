"""The command line: help, exit codes, what is printed where. The stages behind it are replaced by stand-ins."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from autoseg import result_tables
from autoseg.cli import main
from autoseg.console import RichProgress
from autoseg.errors import DatasetError
from autoseg.interrupts import Terminated
from autoseg.options import parse_budget
from autoseg.pipeline.reports import (
    CheckReport,
    DemoReport,
    EvaluateReport,
    PlanReport,
    PredictReport,
    PrepareReport,
    StatusReport,
    TrainReport,
)
from autoseg.pipeline.trust import ReviewRow
from autoseg.progress import duration
from autoseg.records import (
    Case,
    CaseScore,
    Dataset,
    Expectation,
    Fingerprint,
    IntensityStatistics,
    Labels,
    LabelScore,
    LabelSummary,
    MapKinds,
    Plan,
    PredictSettings,
    Problem,
    Reason,
    Summary,
    TrainSettings,
)
from autoseg.workspace import Run, Workspace

REPOSITORY = Path(__file__).resolve().parents[1]
COMMANDS = ("check", "plan", "prepare", "train", "predict", "evaluate", "compare", "status", "demo")
LABELS = Labels(names={"background": 0, "kidney [left]": 1})
Fake = Callable[..., "dict[str, Any]"]


def a_dataset(root: Path) -> Dataset:
    cases = tuple(Case(id=name, images=(root / f"{name}.nii.gz",)) for name in ("a", "b"))
    return Dataset(
        name="Kidneys", root=root, layout="nnunet", channels=("CT",), labels=LABELS, cases=cases, file_ending=".nii.gz"
    )


def a_plan() -> Plan:
    reasons = (
        Reason(field="mirror_axes", value="(0, 1, 2)", because="3D"),
        Reason(field="3d_fullres.patch_size", value="40×56×40", because="median shape – padded to 8"),
    )
    return Plan(
        dataset="Kidneys",
        preset="auto",
        channels=("CT",),
        labels=LABELS,
        mirror_axes=(0, 1, 2),
        configurations={},
        training=TrainSettings(epochs=1, learning_rate=0.1, weight_decay=0.0),
        device="cpu, 2 cores",
        reasons=reasons,
    )


def a_summary(cases: int = 2, failures: dict[str, str] | None = None) -> Summary:
    score = LabelScore(
        dice=0.9,
        iou=0.8,
        true_positives=9,
        false_positives=1,
        false_negatives=1,
        volume_reference_ml=1.0,
        volume_prediction_ml=1.1,
        nsd=0.95,
        hd95_mm=None,
    )
    means = LabelSummary(dice=0.9, iou=0.8, nsd=0.95, hd95_mm=None, cases=cases, empty_references=1, both_empty=0)
    return Summary(
        tolerance_mm=1.0,
        mean_dice=0.9,
        labels={"kidney [left]": means},
        cases=tuple(CaseScore(case=f"c{index:02d}", labels={"kidney [left]": score}) for index in range(cases)),
        failures=failures or {},
    )


def a_problem(root: Path, severity: Any = "error", case: str = "a") -> Problem:
    file = root / f"{case}.nii.gz"
    return Problem(
        severity=severity, kind="nan-voxels", what="3 voxels are NaN", remedy="Fill them.", case=case, file=file
    )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Replaces the pipeline's function of a name by one that gives (or raises) `report`; gives its arguments."""

    def install(name: str, report: object, function: str | None = None) -> dict[str, Any]:
        called: dict[str, Any] = {}

        def stand_in(*words: Any, **options: Any) -> object:
            called["words"] = words
            called.update(options)
            if isinstance(report, BaseException):
                raise report
            return report

        module = ModuleType(f"autoseg.pipeline.{name}")
        setattr(module, function or name, stand_in)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr("autoseg.dataset.inputs.require_inputs", lambda images: None)  # there are none
        return called

    return install


# ------------------------------------------------------------------------------------------------- help and usage


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Usage: autoseg" in shown
    assert "Example" in shown
    assert shown.isascii()


def test_help_lists_all_commands_and_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "scipy", "skimage", "matplotlib", "nibabel", "SimpleITK", "pydicom")
    code = (
        "import sys, json, autoseg.cli\nresult = autoseg.cli.main(['--help'])\n"
        f"print(json.dumps([result, [name for name in {heavy} if name in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=REPOSITORY
    )
    *shown, last = done.stdout.splitlines()
    assert json.loads(last) == [0, []]
    assert all(any(line.strip().startswith(f"{command} ") for line in shown) for command in COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["plan"],
        ["train", "--no-such-option"],
        ["train", "--epochs", "many"],
        ["train", "--epochs", "0"],
        ["train", "--budget", "soon"],
        ["train", "--set", "learning_rate"],
        ["evaluate"],
        ["evaluate", "masks"],
        ["evaluate", "masks", "references", "--test"],
        ["evaluate", "masks", "references", "--model", "m.safetensors"],
        ["evaluate", "--test", "--output", "scores.json"],
        [],
    ],
)
def test_wrong_words_give_exit_code_1(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.err or shown.out
    assert "Traceback" not in shown.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("autoseg 0.")


def test_python_dash_m_gives_the_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "autoseg", "plan"], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
    )
    assert done.returncode == 1
    assert "DATASET" in done.stderr


@pytest.mark.parametrize(
    ("words", "seconds"), [("10min", 600), ("90s", 90), ("1.5h", 5400), ("600", 600), (" 2 H ", 7200), (".5min", 30)]
)
def test_budget(words: str, seconds: float) -> None:
    assert parse_budget(words) == seconds


# ----------------------------------------------------------------------------------------------------- exit codes


def test_an_error_of_the_user_is_one_message(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake("status", DatasetError("is broken", where="x.nii.gz", remedy="Restore it."))
    assert main(["status"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == ["Error: x.nii.gz: is broken", "Restore it."]


def test_a_missing_permission_is_named(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake("status", PermissionError(13, "denied", "work/plan.json"))
    assert main(["status"]) == 1
    assert "work/plan.json" in capsys.readouterr().err


def test_a_fault_of_ours_keeps_its_traceback(fake: Fake) -> None:
    fake("status", ZeroDivisionError("oh"))
    with pytest.raises(ZeroDivisionError) as caught:
        main(["status"])
    assert "fault in autoseg" in caught.value.__notes__[0]


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_interrupted(fake: Fake, stop: BaseException, code: int) -> None:
    fake("status", stop)
    assert main(["status"]) == code


def test_sigterm_ends_with_143(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows ends a process at once on terminate()")
    code = (
        "import sys, types, time\n"
        "slow = types.ModuleType('autoseg.pipeline.status')\n"
        "slow.status = lambda work: (print('ready', flush=True), time.sleep(60))\n"
        "sys.modules[slow.__name__] = slow\n"
        "import autoseg.cli\nsys.exit(autoseg.cli.main(['status']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(timeout=30) == 143


@pytest.mark.parametrize(
    ("severities", "usable", "code"), [((), 2, 0), (("warning",), 2, 0), (("error",), 1, 2), (("error",) * 2, 0, 1)]
)
def test_check(
    fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path, severities: tuple[str, ...], usable: int, code: int
) -> None:
    problems = tuple(a_problem(tmp_path, severity, case) for severity, case in zip(severities, "ab", strict=False))
    fake("check", CheckReport(a_dataset(tmp_path), problems, usable))
    assert main(["check", str(tmp_path), "--work", str(tmp_path / "work")]) == code
    shown = capsys.readouterr().out
    assert f"{usable} of 2 cases can be used" in shown
    for severity, case in zip(severities, "ab", strict=False):
        assert f"{severity.upper()} nan-voxels ({len(severities)})" in shown
        assert f"  {case}: {case}.nii.gz: 3 voxels are NaN" in shown  # the file from the dataset's root on
        assert shown.count("What to do: Fill them.") == 1


def test_plan(fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nothing = IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)
    fingerprint = Fingerprint(
        dataset="Kidneys",
        channels=("CT",),
        labels=LABELS,
        cases=(),
        intensities=(nothing,),
        median_relative_size_after_cropping=1.0,
        labels_with_entries=2,
        cases_declared=2,
    )
    report = PlanReport(a_dataset(tmp_path), (), fingerprint, a_plan(), tmp_path / "plan.json", (), {"plan": 0.1})
    called = fake("plan", report)
    assert main(["plan", str(tmp_path), "--work", "my work", "--preset", "nnunet", "--network", "unetpp"]) == 0
    shown = capsys.readouterr().out
    assert called["overrides"].network == "unetpp"  # type: ignore[attr-defined]
    assert called["words"] == (tmp_path, Workspace(Path("my work")))
    assert called["preset"] == "nnunet"
    assert shown.isascii()
    assert "patch size" in shown
    assert "40x56x40" in shown
    assert "median shape - padded to 8" in shown
    assert "kidney [left] = 1" in shown
    assert 'autoseg train --fold 0 --work "my work"' in shown


def test_the_network_is_given_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["plan", str(tmp_path), "--network", "unetpp", "--set", "network=unet"]) == 1
    assert "--network and --set network=" in capsys.readouterr().err


@pytest.mark.parametrize(("prepared", "failures", "code"), [(2, {}, 0), (1, {"b": "bad"}, 2), (0, {"b": "bad"}, 1)])
def test_prepare(
    fake: Fake, capsys: pytest.CaptureFixture[str], prepared: int, failures: dict[str, str], code: int
) -> None:
    called = fake("prepare", PrepareReport(prepared, 0, failures, 1.0))
    assert main(["prepare", "--configuration", "2d", "--configuration", "3d_fullres", "--workers", "2"]) == code
    assert called["configurations"] == ("2d", "3d_fullres")
    assert called["workers"] == 2
    assert ("b: bad" in capsys.readouterr().out) == bool(failures)


def test_train(fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = Run(tmp_path, "default", "2d", "1")
    called = fake("train", TrainReport(run, 3, 75, {"train": 61.0}, a_summary(), failures={"c02": "cannot be read"}))
    words = ["train", "--fold", "1", "--budget", "2min", "--seed", "3"]
    words += ["--set", "learning_rate=0.1", "--set", "loss = ce"]
    assert main(words) == 2
    assert called["words"] == (Workspace(Path("autoseg-work")),)
    assert called["fold"] == "1"
    assert called["budget_seconds"] == 120
    assert called["overrides"] == {"learning_rate": "0.1", "loss": "ce"}
    assert called["seed"] == 3
    shown = capsys.readouterr().out
    assert "c02: cannot be read" in shown
    assert "0.900" in shown
    assert "3 epochs, 75 steps (train 1 min 1 s)" in shown


@pytest.mark.parametrize(
    ("written", "skipped", "failures", "code"),
    [(1, 0, {}, 0), (1, 0, {"x": "bad"}, 2), (0, 1, {"x": "bad"}, 2), (0, 0, {"x": "bad"}, 1)],
)
def test_predict(
    fake: Fake, capsys: pytest.CaptureFixture[str], written: int, skipped: int, failures: dict[str, str], code: int
) -> None:
    masks = {f"c{index}": Path(f"masks/c{index}.nii.gz") for index in range(written)}
    called = fake("predict", PredictReport("2d, fold 0", masks, tuple("s" * skipped), masks, failures, 1.0))
    assert main(["predict", "images", "masks", "--model", "a", "--model", "b", "--no-mirror"]) == code
    assert called["words"] == (Path("images"), Path("masks"))
    assert called["models"] == (Path("a"), Path("b"))
    assert called["settings"] == PredictSettings(mirror=False)
    assert "Made with: 2d, fold 0" in capsys.readouterr().out


def test_predict_hands_on_what_is_given_by_hand_only(fake: Fake) -> None:
    report = PredictReport("2d, fold 0", {}, (), {}, {}, 1.0)
    called = fake("predict", report)
    assert main(["predict", "images", "masks", "--speed", "fast", "--labels", "liver,spleen", "--roi"]) == 0
    assert (called["speed"], called["deadline"]) == ("fast", None)
    assert called["settings"] == PredictSettings(labels=("liver,spleen",), roi=True)
    assert called["settings"].model_fields_set == {"labels", "roi"}
    called = fake("predict", report)
    assert main(["predict", "images", "masks", "--deadline", "1.5min"]) == 0
    assert (called["speed"], called["deadline"]) == (None, 90.0)
    assert called["settings"].model_fields_set == set()


def test_a_misspelt_folder_is_told_before_anything_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images_new").mkdir()
    given = [str(tmp_path / "image_new"), str(tmp_path / "masks"), "--model", str(tmp_path / "no.safetensors")]
    assert main(["predict", *given]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(
        f"Error: {tmp_path / 'image_new'}: does not exist\nDid you mean {tmp_path / 'images_new'}?"
    )
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize(
    ("cases", "failures", "code"), [(2, {}, 0), (2, {"x": "no mask"}, 2), (0, {"x": "no mask"}, 1)]
)
def test_evaluate(
    fake: Fake, capsys: pytest.CaptureFixture[str], cases: int, failures: dict[str, str], code: int
) -> None:
    called = fake("evaluate", EvaluateReport(a_summary(cases, failures), Path("masks/summary.json")))
    assert main(["evaluate", "masks", "references", "--tolerance", "2", "--output", "s.json"]) == code
    assert called["words"] == (Path("masks"), Path("references"))
    assert called["tolerance_mm"] == 2.0
    assert called["output"] == Path("s.json")
    shown = capsys.readouterr().out
    assert "kidney [left]" in shown
    assert f"Mean Dice 0.900 over {cases} cases" in shown


def test_evaluate_test_scores_the_test_cases(fake: Fake) -> None:
    called = fake("held_back", EvaluateReport(a_summary(), Path("autoseg-work/test/summary.json")), "evaluate_test")
    assert main(["evaluate", "--test", "--work", "w", "--model", "m"]) == 0
    assert called["words"] == (Workspace(Path("w")),)
    assert called["models"] == (Path("m"),)


def test_status_names_the_next_command(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake("status", StatusReport((("plan", "default"), ("disk used", "1 MB")), "autoseg train --fold 0"))
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Next: autoseg train --fold 0"


def test_demo(fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = DemoReport(
        {"plan": 1.0, "train": 80.0}, a_summary(), a_summary(), {"picture": Path("p.png")}, Path("p.png")
    )
    called = fake("demo", report)
    assert main(["demo", str(tmp_path)]) == 0
    assert called["words"] == (tmp_path,)
    shown = capsys.readouterr().out
    assert "1 min 21 s" in shown
    assert "p.png" in shown


# -------------------------------------------------------------------------------------------------- what is shown


def test_of_many_cases_the_worst_are_shown_unless_all_are_asked_for(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake("evaluate", EvaluateReport(a_summary(50), Path("summary.json")))
    main(["evaluate", "m", "r"])
    short = capsys.readouterr().out
    main(["evaluate", "m", "r", "--every-case"])
    assert sum(line.startswith("| c") for line in short.splitlines()) == result_tables.WORST_ROWS + 1  # and the heading
    assert sum(line.startswith("| c") for line in capsys.readouterr().out.splitlines()) == 51


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (185, "3 min 5 s"), (7810, "2 h 10 min")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_progress_in_a_log_says_what_is_done_and_what_is_left() -> None:
    stream, now = io.StringIO(), [0.0]
    progress = RichProgress(Console(file=stream, width=120), clock=lambda: now[0])
    with progress.stage("Preparing cases", 4) as advance:
        for _ in range(4):
            now[0] += 20.0
            advance(1)
    progress.warn("odd – but fine")
    assert stream.getvalue().splitlines() == [
        "Preparing cases: 2 of 4, about 40 s left",
        "Preparing cases: 4 in 1 min 20 s",
        "Warning: odd - but fine",
    ]


def test_progress_on_a_terminal_takes_nested_stages() -> None:
    stream = io.StringIO()
    progress = RichProgress(Console(file=stream, force_terminal=True, width=100))
    with progress.stage("outer [x]", 2) as advance:
        with progress.stage("inner", None) as step:
            step(1)
        advance(2)
    with progress.stage("later", 1) as advance:
        advance(1)
    for title in ("outer [x]: 2 in", "inner: 1 in", "later: 1 in"):
        assert title in stream.getvalue()


def test_a_stage_that_fails_does_not_claim_to_be_done() -> None:
    stream = io.StringIO()
    progress = RichProgress(Console(file=stream, force_terminal=True, width=100))
    with pytest.raises(ValueError, match="oh"), progress.stage("failing", 2):
        raise ValueError("oh")
    assert "failing: " not in stream.getvalue()


def test_predict_shows_what_to_look_at_first(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    expected = Expectation(dice=0.91, low=0.8, high=0.95)
    rows = (
        ReviewRow("strange", None, None, ("nothing was found",), unlike=False),
        ReviewRow("plain", expected, 0.97, (), unlike=False),
    )
    masks = {name: Path(f"masks/{name}.nii.gz") for name in ("strange", "plain")}
    fake("predict", PredictReport("2d, fold 0", masks, (), masks, {}, 1.0, rows))
    assert main(["predict", "images", "masks", "--model", "a"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 cases with a reason" in shown
    assert "nothing was found" in shown
    assert "0.91 (0.80 to 0.95)" in shown
    assert "review.csv" in shown


def test_predict_asks_for_maps(fake: Fake) -> None:
    called = fake("predict", PredictReport("2d, fold 0", {}, ("a",), {}, {}, 1.0))
    main(["predict", "images", "masks", "--model", "a", "--uncertainty"])
    assert called["maps"] == MapKinds(uncertainty=True)
    main(["predict", "images", "masks", "--model", "a", "--object-masks"])
    assert called["maps"] == MapKinds(object_masks=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_heard_even_where_a_library_makes_an_error_of_it(
    fake: Fake, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    class Wrapped:
        """As pydantic does in its serializers."""

        def __getattr__(self, _name: str) -> object:
            try:
                signal.raise_signal(number)
            except BaseException:
                raise ValueError("error while serializing") from None
            return None

    fake("check", Wrapped())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
    try:
        assert main(["check", "data"]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert "This is a fault" not in capsys.readouterr().err
