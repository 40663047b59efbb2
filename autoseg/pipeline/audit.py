"""`audit`: which references are likely wrong, and where, judged by networks that had not seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg import devices
from autoseg.errors import ModelError, RecordError
from autoseg.files import read_record, write_record
from autoseg.inference.joining import asked_precision, networks_of
from autoseg.interrupts import stop_switch
from autoseg.pipeline.audit_evidence import Evidence, held_out_evidence
from autoseg.pipeline.audit_pages import require_own_tables, write_tables
from autoseg.pipeline.audit_ranking import ranked_audit
from autoseg.pipeline.candidates import Configured, Found, find_candidates, joint_name, possible_ensembles, shared_cases
from autoseg.pipeline.choosing_model import known_plugins
from autoseg.pipeline.ensembles import Trials
from autoseg.pipeline.plans import read_dataset, run_options
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import Audit, PredictSettings, Selection
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: Cases from which on their median and its deviation are not moved by one or two that are wrong.
FEWEST_CASES = 8


@dataclass(frozen=True)
class AuditReport:
    """The queue, and where its files are."""

    audit: Audit
    cases: Path
    places: Path
    notes: tuple[str, ...]


def audit(
    work: Workspace,
    *,
    plans: tuple[str, ...] = (),
    configurations: tuple[str, ...] = (),
    device: str = "auto",
    precision: str = "auto",
    use: Sequence[str] = (),
    progress: Progress,
) -> AuditReport:
    """Rank the held-out cases of all finished folds, and the places in them, by how likely their reference is wrong.

    Several `configurations` look together: their probabilities are averaged. Unless any is named, those that were
    selected look, or else the one with most held-out cases. Writes audit.json, cases.csv and places.csv into
    WORK/audit. Raises ModelError where nothing is trained and scored, UsageError where a table is in the way that no
    audit wrote.
    """
    require_own_tables(work)
    load_plugins((*use, *known_plugins(work)))
    dataset = read_dataset(work)
    found = find_candidates(work, dataset, plans, configurations)
    parts = _chosen_parts(work, found, together=bool(configurations))
    headers = [fold.header for part in parts for fold in part.folds.values()]
    target = devices.choose_device(device)
    asked = asked_precision(precision, headers)
    mirror = all(fold.mirrored for part in parts for fold in part.folds.values())
    progress.say(f"Looking: {joint_name(parts)}")
    with stop_switch() as stop:
        trials = Trials(
            work=work,
            cases={case.id: case for case in dataset.cases},
            labels=dataset.labels,
            device=target,
            precision=devices.choose_precision(asked, target, networks_of(headers)),
            settings=PredictSettings(mirror=mirror),
            workers=None,
            stop=stop,
            progress=progress,
        )
        evidence, failures = held_out_evidence(trials, parts, shared_cases(parts))
    _require_evidence(evidence, failures, work)
    ranked = ranked_audit(evidence, dataset, joint_name(parts), failures)
    write_record(work.audit / "audit.json", ranked)
    cases, places = write_tables(work, ranked)
    return AuditReport(ranked, cases, places, tuple(_notes(ranked, found)))


def _chosen_parts(work: Workspace, found: Found, together: bool) -> tuple[Configured, ...]:
    """The configurations that look."""
    if not found.configured:
        told = "".join(f"; {name}: {why}" for name, why in found.left_out.items())
        raise ModelError(
            f"nothing is trained and scored here that could look at cases it had not seen{told}",
            where=work.root,
            remedy=f"Train all folds first: autoseg train --fold every{run_options(work, DEFAULT_PLAN)}",
        )
    if together:
        if not shared_cases(found.configured):
            raise ModelError(
                f"no case is held out by all of {', '.join(part.name for part in found.configured)}",
                where=work.root,
                remedy="Name one of them with --configuration, or train the same folds of both.",
            )
        return found.configured
    chosen = _selected_name(work)
    options = [(part,) for part in found.configured] + possible_ensembles(found.configured)
    for parts in options:
        if joint_name(parts) == chosen:
            return parts
    return (max(found.configured, key=lambda part: len(part.scores)),)


def _selected_name(work: Workspace) -> str | None:
    """What `select` chose; None where it was not asked, or its record cannot be read."""
    try:
        return read_record(work.selection, Selection).chosen
    except RecordError:
        return None


def _require_evidence(evidence: Sequence[Evidence], failures: Mapping[str, str], work: Workspace) -> None:
    if evidence:
        return
    case, why = next(iter(failures.items()))
    raise ModelError(
        f"no held-out case could be looked at; {case}: {why}",
        where=work.root,
        remedy="See `autoseg check`, or whether the files have moved since `autoseg plan`.",
    )


def _notes(ranked: Audit, found: Found) -> list[str]:
    notes = [f"{name} is left out: {why}" for name, why in found.left_out.items()]
    if len(ranked.cases) < FEWEST_CASES:
        notes.append(
            f"of {len(ranked.cases)} cases it is hardly known what is usual: go by the order and the pictures, "
            "not by the marks"
        )
    if ranked.not_held_out:
        notes.append(
            f"{ranked.not_held_out} cases are held out by no finished fold, so nobody looked at them; "
            "train the other folds to have all"
        )
    return notes
