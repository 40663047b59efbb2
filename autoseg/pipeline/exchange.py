"""`import-nnunet` and `export`: models that come from other programs, and models that go to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import UsageError
from autoseg.files import read_record
from autoseg.inference.joining import joined_model
from autoseg.interop.nnunet_export import Origin, folders_for_nnunet, write_folder
from autoseg.interop.nnunet_model import read_nnunet_model
from autoseg.interop.nnunet_plans import plans_name_of
from autoseg.model_file import write_model
from autoseg.pipeline.choosing_model import choose_models
from autoseg.pipeline.receipts import versions
from autoseg.progress import Progress
from autoseg.records import Configuration, Dataset, Fingerprint, ModelHeader, Plan
from autoseg.workspace import Workspace

#: What a model file does not tell of the dataset it was trained on, where no work folder does.
UNKNOWN_DATASET = "Dataset000_autoseg"
VOLUME_ENDING, PICTURE_ENDING = ".nii.gz", ".png"


@dataclass(frozen=True)
class ImportReport:
    """A model that was taken over."""

    source: str  # the folder's name
    path: Path
    header: ModelHeader
    checkpoints: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def configuration(self) -> Configuration:
        """What all its members are."""
        return self.header.members[0].configuration


@dataclass(frozen=True)
class ExportReport:
    """Folders that were written for another program."""

    description: str  # of the model
    folders: Mapping[Path, tuple[str, ...]]  # folder -> folds in it
    notes: tuple[str, ...]


def import_nnunet(
    source: Path,
    out: Path,
    *,
    folds: Sequence[str] = (),
    checkpoint: str | None = None,
    configuration: str | None = None,
    progress: Progress,
) -> ImportReport:
    """Write a trained model of nnU-Net as a model file of ours.

    The arguments are those of `read_nnunet_model`. Raises UsageError where `out` exists: it is kept.
    """
    if out.exists():
        raise UsageError("exists already, and is kept", where=out, remedy="Name another file with --out.")
    with progress.stage("Reading nnU-Net's model", None):
        model = read_nnunet_model(source, folds=folds, checkpoint=checkpoint, configuration=configuration)
    header = model.header.model_copy(update={"versions": versions()})
    write_model(out, header, model.tensors)
    return ImportReport(model.source, out, header, model.checkpoints, model.notes)


def export_nnunet(
    target: Path,
    *,
    models: tuple[Path, ...] = (),
    work: Workspace | None = None,
    file_ending: str | None = None,
    progress: Progress,
) -> ExportReport:
    """Write a model for nnU-Net: a trainer__plans__configuration folder per configuration, under `target`.

    Args:
        target: folder to write into; what exists in it is kept.
        models: model files or folders of runs; none takes what `predict` would take from the work folder.
        work: the work folder, which also tells of dataset and plan where the model comes from it.
        file_ending: of the images that nnU-Net is to read; None takes that of the dataset.
    """
    files, description = choose_models(models, work)
    header, tensors = joined_model(files)
    origin = _origin(header, None if models else work, file_ending)
    folders = folders_for_nnunet(header, tensors, origin)
    for folder in folders:
        if (target / folder.name).exists():
            raise UsageError(
                f"holds {folder.name} already, which is kept", where=target, remedy="Name another folder with --nnunet."
            )
    written: dict[Path, tuple[str, ...]] = {}
    with progress.stage("Writing for nnU-Net", len(folders)) as advance:
        for folder in folders:
            write_folder(folder, target / folder.name)
            written[target / folder.name] = tuple(name.removeprefix("fold_") for name in folder.checkpoints)
            advance(1)
    # a note on the labels is the same for every folder
    notes = tuple(dict.fromkeys(note for folder in folders for note in folder.notes))
    return ExportReport(description, written, notes)


def _origin(header: ModelHeader, work: Workspace | None, file_ending: str | None) -> Origin:
    """What nnU-Net's files tell beside the model: from the work folder it was trained in, as far as there is one."""
    if work is not None and work.dataset.exists() and work.fingerprint.exists():
        dataset, fingerprint = read_record(work.dataset, Dataset), read_record(work.fingerprint, Fingerprint)
        plan = _plan_of(header, work)
        return Origin(
            dataset=dataset.name,
            plans_name=plans_name_of("default" if plan is None else plan.name),
            cases=len(dataset.cases),
            file_ending=file_ending or dataset.file_ending,
            flat=all(case.orientation == "flat" for case in fingerprint.cases),
            configurations=() if plan is None else tuple(plan.configurations.values()),
            fingerprint=fingerprint,
        )
    known = header.fingerprint
    flat = known.orientations == ("flat",)
    return Origin(
        dataset=UNKNOWN_DATASET,
        plans_name=plans_name_of("default"),
        cases=known.cases,
        file_ending=file_ending or known.file_ending or (PICTURE_ENDING if flat else VOLUME_ENDING),
        flat=flat,
    )


def _plan_of(header: ModelHeader, work: Workspace) -> Plan | None:
    """The plan of the work folder from which the model was trained; None where it is not there any more."""
    for name in work.plan_names():
        plan = read_record(work.plan(name), Plan)
        if all(member.configuration in plan.configurations.values() for member in header.members):
            return plan
    return None
