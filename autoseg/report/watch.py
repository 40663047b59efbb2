"""Following a training in programs made for it: TensorBoard, MLflow, Weights & Biases.

Nothing is sent anywhere unless a logger is asked for by name. Each needs its package, which is imported only then. What
they get are the lines of metrics.jsonl and the settings: no case ids, no paths of the data.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from autoseg.errors import AutosegError, UsageError
from autoseg.files import text_hash
from autoseg.progress import Progress
from autoseg.records import EpochRecord, TrainSettings

#: What is told after each epoch.
Tell = Callable[[EpochRecord], None]


@dataclass(frozen=True)
class Watched:
    """The training that is followed."""

    folder: Path  # of the run
    name: str  # "default, 3d_fullres, fold 0"
    dataset: str
    settings: TrainSettings

    @property
    def key(self) -> str:
        """The same for every start of one run, so that a resumed one goes on in the same place."""
        return text_hash(str(self.folder.resolve()), 16)

    @property
    def values(self) -> dict[str, object]:
        """The settings, by name."""
        return self.settings.model_dump(mode="json", exclude_none=True)


#: A training to something that is open while it runs, and is told of each epoch.
Logger = Callable[[Watched], AbstractContextManager[Tell]]


@contextmanager
def tensorboard(run: Watched) -> Iterator[Tell]:
    """Event files in the run's folder `tensorboard`; `tensorboard --logdir WORK/runs` shows them."""
    writer = _package("tensorboard.summary", "tensorboard").Writer(str(run.folder / "tensorboard"))

    def tell(record: EpochRecord) -> None:
        for name, value in scalars(record).items():
            writer.add_scalar(name, value, step=record.epoch + 1)
        writer.flush()

    try:
        yield tell
    finally:
        writer.close()


@contextmanager
def mlflow(run: Watched) -> Iterator[Tell]:
    """A run on the tracking server that MLflow is set up for, in the experiment named after the dataset."""
    package = _package("mlflow", "mlflow")
    package.set_experiment(run.dataset)
    kept = run.folder / "mlflow-run.txt"  # a resumed training goes on in the same run
    before = kept.read_text(encoding="utf-8").strip() if kept.exists() else None
    started = package.start_run(run_id=before) if before else package.start_run(run_name=run.name)
    kept.write_text(started.info.run_id, encoding="utf-8")
    if not before:
        package.log_params(run.values)
    status = "FAILED"
    try:
        yield lambda record: package.log_metrics(scalars(record), step=record.epoch + 1)
        status = "FINISHED"
    finally:
        package.end_run(status)


@contextmanager
def wandb(run: Watched) -> Iterator[Tell]:
    """A run of Weights & Biases, in the project named after the dataset, where its own settings send it."""
    package = _package("wandb", "wandb")
    started = package.init(
        project=run.dataset, name=run.name, id=run.key, resume="allow", config=run.values, dir=str(run.folder)
    )
    try:
        yield lambda record: started.log(scalars(record), step=record.epoch + 1)
    finally:
        started.finish()


LOGGERS: dict[str, Logger] = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}


def scalars(record: EpochRecord) -> dict[str, float]:
    """The numbers of an epoch by name; what does not exist is left out."""
    values: dict[str, float | None] = {
        "train_loss": record.train_loss,
        "patch_dice": record.patch_dice,
        "learning_rate": record.learning_rate,
        "data_wait": record.data_wait,
        "seconds": record.seconds,
        "steps": float(record.step),
    }
    # not below patch_dice: MLflow may keep a metric as a file, and then none can lie below it
    values |= {f"patch_dice_per_label/{name}": value for name, value in _plain(record.patch_dice_per_label).items()}
    return {name: float(value) for name, value in values.items() if value is not None}


def _plain(names: Mapping[str, float | None]) -> dict[str, float | None]:
    """Names of labels with what no logger refuses."""
    return {"".join(c if c.isalnum() or c in "_-. " else "_" for c in name): value for name, value in names.items()}


@contextmanager
def watching(names: Sequence[str], run: Watched, progress: Progress) -> Iterator[Tell]:
    """Tell all named loggers of each epoch; one that fails later is warned of and left out, the training goes on.

    Raises UsageError for an unknown name or a package that is missing, before anything is trained.
    """
    with ExitStack() as stack:
        active = {}
        for name in dict.fromkeys(names):
            if name not in LOGGERS:
                raise UsageError(f"--log {name} is unknown", remedy=f"Known: {', '.join(LOGGERS)}.")
            active[name] = stack.enter_context(_forgiving_end(name, LOGGERS[name](run), progress))

        def tell(record: EpochRecord) -> None:
            for name, listener in list(active.items()):
                try:
                    listener(record)
                except Exception as error:  # whatever a server or its package raises: no training ends for it
                    progress.warn(f"{name} failed and is told no more: {type(error).__name__}: {error}")
                    del active[name]

        yield tell


@contextmanager
def _forgiving_end(name: str, opened: AbstractContextManager[Tell], progress: Progress) -> Iterator[Tell]:
    """The logger; what it raises when it is closed is a warning. Raises UsageError where it cannot be opened."""
    try:
        tell = opened.__enter__()
    except AutosegError:
        raise
    except Exception as error:  # whatever its package raises
        raise UsageError(
            f"{name} could not be started: {type(error).__name__}: {error}",
            remedy=f"Set {name} up first, or leave out --log {name}.",
        ) from error
    failure: tuple[Any, Any, Any] = (None, None, None)
    try:
        yield tell
    except BaseException as error:
        failure = (type(error), error, error.__traceback__)
        raise
    finally:
        try:
            opened.__exit__(*failure)
        except Exception as error:
            if error is not failure[1]:
                progress.warn(f"{name} could not be closed: {type(error).__name__}: {error}")


def _package(module: str, extra: str) -> ModuleType:
    """The package of a logger. Raises UsageError that tells how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"--log {extra} needs a package that is not installed ({error.name or error})",
            remedy=f"In the checkout of autoseg: pip install '.[{extra}]' (the package autoseg-pipeline[{extra}]).",
        ) from error
