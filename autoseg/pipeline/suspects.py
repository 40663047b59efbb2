"""Training cases whose reference is likely wrong, as an audit of the work folder found them."""

from __future__ import annotations

from autoseg.errors import RecordError
from autoseg.evaluation.label_doubts import SUSPICIOUS
from autoseg.files import read_record
from autoseg.pipeline.plans import run_options
from autoseg.records import Audit, Fold
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: Share of the training cases that is set aside at most: without more of them, too few cases would be the reason.
MOST_SHARE = 0.1


def suspicious_cases(work: Workspace, split: Fold) -> tuple[tuple[str, ...], str]:
    """The training cases with the most suspicious references, the worst first, and what is to be said of it.

    Without any the words tell why; else they tell of held-out cases that are as suspicious, since all trainings are
    scored with them as they are.
    """
    options = run_options(work, DEFAULT_PLAN)
    path = work.audit / "audit.json"
    if not path.exists():
        return (), (
            f"no references were set aside: there is no audit of them. `autoseg train --fold every{options}`, then "
            f"`autoseg audit{options}`, then this command again"
        )
    try:
        audit = read_record(path, Audit)
    except RecordError as error:
        return (), f"no references were set aside: {error}"
    training, held_out = set(split.train), set(split.val)
    looked_at = [case for case in audit.cases if case.case in training]
    if not looked_at:
        return (), (
            "no references were set aside: the audit looked at none of these training cases. Train the other folds, "
            f"then `autoseg audit{options}`"
        )
    found = [case.case for case in looked_at if case.suspicion >= SUSPICIOUS]
    if not found:
        return (), f"no references were set aside: of {len(looked_at)} that were looked at none is suspicious"
    odd = sum(case.case in held_out and case.suspicion >= SUSPICIOUS for case in audit.cases)
    note = f"{odd} of the held-out cases are suspicious too: correct these first, every score depends on them"
    return tuple(found[: max(1, int(MOST_SHARE * len(training)))]), note if odd else ""
