"""Every path and file name used on disk, as properties of the work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import WorkspaceError
from autoseg.files import text_hash
from autoseg.plain_names import is_plain_name, require_plain_name
from autoseg.records import Preparation

DEFAULT_PLAN = "default"

#: Normalizations that look at the case alone: the dataset's statistics do not enter.
NORMALIZED_ALONE = frozenset(
    ("ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization")
)


@dataclass(frozen=True)
class Run:
    """The folder of one training: one plan, configuration and fold."""

    folder: Path
    plan: str
    configuration: str
    fold: str

    @property
    def model(self) -> Path:
        """The trained network; exists when training has finished."""
        return self.folder / "model.safetensors"

    @property
    def state_tensors(self) -> Path:
        """Tensors for resuming."""
        return self.folder / "state.safetensors"

    @property
    def kept_state(self) -> Path:
        """The state from before the final decay: what a longer run goes on from."""
        return self.folder / "before_ending.safetensors"

    @property
    def stop(self) -> Path:
        """A file that a person makes here ends this run early."""
        return self.folder / "STOP"

    @property
    def settings(self) -> Path:
        """TrainSettings of the run."""
        return self.folder / "settings.json"

    @property
    def metrics(self) -> Path:
        """One line per epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def acceleration(self) -> Path:
        """Which way to compute was the fastest when it was tried for this run."""
        return self.folder / "acceleration.json"

    @property
    def curves(self) -> Path:
        """Picture of the curves."""
        return self.folder / "progress.png"

    @property
    def report(self) -> Path:
        """The training as a page."""
        return self.folder / "report.html"

    @property
    def results(self) -> Path:
        """The scores of the held-out cases as a page."""
        return self.folder / "results.html"

    @property
    def validation(self) -> Path:
        """Masks of the held-out cases."""
        return self.folder / "validation"

    @property
    def next_stage(self) -> Path:
        """What the first stage of a cascade found in its held-out cases, for the second."""
        return self.folder / "next_stage"

    @property
    def costs(self) -> Path:
        """Time and memory of the mask of each held-out case."""
        return self.folder / "costs.json"

    @property
    def summary(self) -> Path:
        """Scores of the held-out cases."""
        return self.folder / "summary.json"

    @property
    def receipt(self) -> Path:
        """What the run was made with and how long each stage took."""
        return self.folder / "receipt.json"

    @property
    def lock(self) -> Path:
        """Held while a process trains here."""
        return self.folder / "running.lock"


@dataclass(frozen=True)
class Workspace:
    """The work folder (--work, by default ./autoseg-work)."""

    root: Path
    part_of: Path | None = None  # the work folder whose dataset and prepared cases this one uses; None: its own

    @property
    def _shared(self) -> Path:
        return self.part_of or self.root

    @property
    def dataset(self) -> Path:
        """The dataset as it was understood."""
        return self._shared / "dataset.json"

    @property
    def fingerprint(self) -> Path:
        """What the data look like."""
        return self._shared / "fingerprint.json"

    @property
    def splits(self) -> Path:
        """Folds in nnU-Net's format."""
        return self.root / "splits.json"

    @property
    def prepared(self) -> Path:
        """Prepared cases of all preparations."""
        return self._shared / "prepared"

    @property
    def runs(self) -> Path:
        """All trainings."""
        return self.root / "runs"

    @property
    def stop(self) -> Path:
        """A file that a person makes here ends every run under way."""
        return self._shared / "STOP"

    @property
    def model(self) -> Path:
        """The deployable bundle, once one was selected."""
        return self.root / "model.safetensors"

    @property
    def report(self) -> Path:
        """Pages of the dataset and of the plans."""
        return self.root / "report"

    @property
    def findings(self) -> Path:
        """What was found when the dataset was read."""
        return self.report / "findings.json"

    @property
    def placement(self) -> Path:
        """Pictures of labels that lie elsewhere than their image."""
        return self.root / "report" / "placement"

    @property
    def selection(self) -> Path:
        """What was compared when the bundle was selected, and what was chosen."""
        return self.root / "selection.json"

    def ensemble(self, name: str) -> Path:
        """Masks that several configurations make together of held-out cases, and their scores."""
        return self.root / "ensembles" / name

    @property
    def audit(self) -> Path:
        """What was found of the references: the queue of likely label errors, its page and its tables."""
        return self.root / "audit"

    @property
    def diagnoses(self) -> Path:
        """A folder for each diagnosis: its trainings, verdict, page and table."""
        return self.root / "diagnosis"

    def diagnosis(self, name: str) -> Workspace:
        """The work folder of a diagnosis, whose trainings use this one's prepared cases."""
        return Workspace(self.diagnoses / name, part_of=self.root)

    @property
    def suggestions(self) -> Path:
        """What is worth labelling next: the queue, its page and its table."""
        return self.root / "suggest"

    @property
    def test(self) -> Path:
        """Masks and scores of the test cases."""
        return self.root / "test"

    def plan(self, name: str = DEFAULT_PLAN) -> Path:
        """A plan by name; `default` is plan.json."""
        return self._of_plan("plan", name)

    def probe(self, name: str = DEFAULT_PLAN) -> Path:
        """What was measured when a plan was made; `default` is probe.json."""
        return self._of_plan("probe", name)

    def receipt(self, name: str = DEFAULT_PLAN) -> Path:
        """What a plan was made with; `default` is receipt.json."""
        return self._of_plan("receipt", name)

    def _of_plan(self, kind: str, name: str) -> Path:
        require_plain_name(name, "plan")
        return self.root / (f"{kind}.json" if name == DEFAULT_PLAN else f"{kind}-{name}.json")

    def plan_names(self) -> list[str]:
        """Names of the plans that exist, `default` first; a copy that a person made is none unless its name can be."""
        others = sorted(path.stem.removeprefix("plan-") for path in self.root.glob("plan-*.json"))
        return ([DEFAULT_PLAN] if self.plan().exists() else []) + [name for name in others if is_plain_name(name)]

    def prepared_folder(self, preparation: Preparation) -> Path:
        """The folder of one preparation, named by its hash."""
        return self.prepared / preparation_hash(preparation)

    def prepared_receipt(self, preparation: Preparation) -> Path:
        """What the cases of one preparation were prepared with; beside their folder, which holds cases only."""
        return self.prepared / f"{preparation_hash(preparation)}.json"

    def run(self, plan: str, configuration: str, fold: int | str) -> Run:
        """The folder of one training."""
        require_plain_name(plan, "plan")
        require_plain_name(configuration, "configuration")
        return Run(self.runs / plan / configuration / f"fold_{fold}", plan, configuration, str(fold))

    def all_runs(self) -> list[Run]:
        """Trainings that were begun, by name."""
        found = []
        for settings in sorted(self.runs.glob("*/*/fold_*/settings.json")):
            folder = settings.parent
            plan, configuration = folder.parts[-3:-1]
            if is_plain_name(plan) and is_plain_name(configuration):
                found.append(Run(folder, plan, configuration, folder.name.removeprefix("fold_")))
        return found

    @classmethod
    def of_run(cls, folder: Path) -> Workspace:
        """The work folder that the folder of a run lies in, also that of a diagnosis. `folder` is an absolute path."""
        root = folder.parents[3]
        around = cls(root.parent.parent)
        return around.diagnosis(root.name) if root.parent == around.diagnoses else cls(root)

    def require_plan(self, name: str = DEFAULT_PLAN) -> Path:
        """The path of an existing plan; the error says how to make one."""
        path = self.plan(name)
        if path.exists():
            return path
        known = self.plan_names()
        if known:
            raise WorkspaceError(
                f"there is no plan {name!r}", where=self.root, remedy=f"There are: {', '.join(known)}."
            )
        raise WorkspaceError(
            "there is no plan in this work folder",
            where=self.root,
            remedy="Run `autoseg plan DATASET` first, or name the work folder with --work.",
        )


def preparation_hash(preparation: Preparation) -> str:
    """Sixteen hex digits of the SHA-256 of the preparation's JSON, without what decides no byte of a prepared case.

    So a new case, which changes the statistics of the dataset a little, leaves the prepared cases valid unless a
    channel is normalized by them.
    """
    deciding = preparation.model_dump(mode="json", exclude={"slice_order"})
    for channel, scheme in enumerate(preparation.normalization):
        if scheme in NORMALIZED_ALONE and channel < len(deciding["intensities"]):
            deciding["intensities"][channel] = None
    return text_hash(json.dumps(deciding, sort_keys=True), length=16)
