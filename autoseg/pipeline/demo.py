"""`demo`: everything, end to end, on the example data."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import autoseg
from autoseg.dataset.readers import read_image, read_labels
from autoseg.errors import AutosegError, UsageError
from autoseg.files import read_record
from autoseg.pipeline.evaluate import evaluate
from autoseg.pipeline.looks import look_at
from autoseg.pipeline.pages import dataset_report, left, plan_report
from autoseg.pipeline.plan import plan
from autoseg.pipeline.predict import predict
from autoseg.pipeline.prepare import prepare
from autoseg.pipeline.report import index_report
from autoseg.pipeline.reports import DemoReport
from autoseg.pipeline.result_pages import masks_report, results_report
from autoseg.pipeline.train import train
from autoseg.progress import Progress
from autoseg.records import Case, Dataset
from autoseg.report.preview import draw_scenes
from autoseg.report.slices import Look
from autoseg.workspace import Workspace

#: Wall time of the demo's training, scoring included.
TRAINING_SECONDS = 110.0


def demo(folder: Path, *, progress: Progress) -> DemoReport:
    """Plan, prepare, train one fold, score it, segment and score the test cases; all under `folder`."""
    stages: dict[str, float] = {}
    data = _own_copy(folder)
    work = Workspace(folder / "work")
    began = time.monotonic()
    plan(data, work, progress=progress)
    left(lambda: plan_report(work), progress)
    left(lambda: dataset_report(work), progress)
    stages["plan"] = time.monotonic() - began
    began = time.monotonic()
    prepare(work, progress=progress)
    stages["prepare"] = time.monotonic() - began
    began = time.monotonic()
    trained = train(work, fold="0", budget_seconds=TRAINING_SECONDS, progress=progress)
    stages["train and score held-out cases"] = time.monotonic() - began
    if trained.summary is None:
        raise AutosegError("the held-out cases were not scored", where=trained.run.folder)
    began = time.monotonic()
    masks = folder / "masks"
    predicted = predict(data / "imagesTs", masks, work=work, progress=progress)
    labels = read_record(work.dataset, Dataset).labels
    left(lambda: masks_report(masks, predicted.images, labels), progress)
    stages["predict test cases"] = time.monotonic() - began
    began = time.monotonic()
    tested = evaluate(masks, data / "labelsTs", work=work, progress=progress)
    left(lambda: results_report(masks, data / "labelsTs", tested.summary, tested.output, work), progress)
    stages["score test cases"] = time.monotonic() - began
    preview = folder / "preview.png"
    began = time.monotonic()
    _draw(preview, read_record(work.dataset, Dataset), masks)
    stages["draw"] = time.monotonic() - began
    files = {
        "plan, with reasons": work.plan(),
        "trained network": trained.run.model,
        "training curves": trained.run.curves,
        "scores of the held-out cases": trained.run.summary,
        "masks of the test cases": masks,
        "picture of the result": preview,
    }
    index = left(lambda: index_report(work), progress)
    if index is not None:
        files["reports, to open in a browser"] = index
    return DemoReport(stages, trained.summary, tested.summary, files, preview)


def _own_copy(folder: Path) -> Path:
    """The example data, copied where the user sees it; a demo that was begun goes on with its copy."""
    data = folder / "example_data"
    if data.exists():
        return data
    if folder.exists() and any(folder.iterdir()):
        raise UsageError("there is something else in this folder", where=folder, remedy="Run the demo elsewhere.")
    shutil.copytree(_packaged(), data)
    return data


def _packaged() -> Path:
    """The example data in the installed package, or beside it in a checkout."""
    package = Path(autoseg.__file__).parent
    for place in (package / "example_data", package.parent / "example_data"):
        if (place / "dataset.json").is_file():
            return place
    raise AutosegError(
        "the example data are not part of this installation", where=package, remedy="Install autoseg anew."
    )


def _draw(path: Path, dataset: Dataset, masks: Path) -> None:
    looks = [_look(case, masks) for case in dataset.test_cases[:2]]
    values = {name: value for name, value in dataset.labels.names.items() if isinstance(value, int) and value != 0}
    draw_scenes(path, looks, values)


def _look(case: Case, masks: Path) -> Look:
    volume = read_image(case.images)
    mask = read_labels(masks / f"{case.id}.nii.gz").labels
    reference = None if case.labels is None else read_labels(case.labels).labels
    return look_at(case.id, volume.image[0], mask, volume.geometry, reference)
