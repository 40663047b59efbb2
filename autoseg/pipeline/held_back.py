"""`evaluate --test`: predict and score the test cases, which planning and selection never read."""

from __future__ import annotations

from pathlib import Path

from autoseg.errors import DatasetError
from autoseg.files import read_record
from autoseg.model_file import read_header
from autoseg.pipeline.choosing_model import choose_models
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, evaluation_receipt, score_cases, write_summary
from autoseg.pipeline.predict import predict
from autoseg.pipeline.reports import EvaluateReport
from autoseg.progress import Progress
from autoseg.records import BEST_PREDICTION, Dataset, PredictSettings
from autoseg.workspace import Workspace


def evaluate_test(
    work: Workspace,
    *,
    models: tuple[Path, ...] = (),
    device: str = "auto",
    settings: PredictSettings = BEST_PREDICTION,
    tolerance_mm: float = TOLERANCE_MM,
    lesion_iou: float | None = None,
    overwrite: bool = False,
    use: tuple[str, ...] = (),
    workers: int | None = None,
    progress: Progress,
) -> EvaluateReport:
    """Masks and scores of `imagesTs` / `labelsTs`, in the work folder's `test`."""
    dataset = read_record(work.dataset, Dataset)
    labelled = [case for case in dataset.test_cases if case.labelled]
    if not labelled:
        raise DatasetError(
            "there are no test cases with labels", where=dataset.root, remedy="They go into imagesTs and labelsTs."
        )
    files, _ = choose_models(models, work)
    predicted = predict(
        labelled,
        work.test,
        models=models,
        work=work,
        device=device,
        settings=settings,
        overwrite=overwrite,
        use=use,
        progress=progress,
    )
    masks, labels = predicted.masks, read_header(files[0]).labels
    tasks = [ScoreTask(masks[case.id], case, labels, tolerance_mm, lesion_iou) for case in labelled if case.id in masks]
    summary = score_cases(tasks, predicted.failures, tolerance_mm, workers, progress)
    output = work.test / "summary.json"
    write_summary(output, summary, labels, evaluation_receipt(tasks))
    return EvaluateReport(summary, output)
