"""Trainings under one rule: plans of one work folder, for the same wall time, on the same folds and prepared cases."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.files import read_record
from autoseg.planning.step import weights_of
from autoseg.records import Plan


@dataclass(frozen=True)
class Rule:
    """What is the same for all."""

    dataset: Path
    work: Path
    configuration: str
    budget: float  # seconds of `autoseg train`: preparing, training and scoring count, planning does not
    seed: int = 0
    plan: tuple[str, ...] = ()  # words for `autoseg plan`


def rule_parser(description: str | None, budget: float, names: Iterable[str]) -> argparse.ArgumentParser:
    """The options that make a `Rule`, with those of which plans are trained and where results are kept."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--budget", type=float, default=budget, help="seconds of `autoseg train` for each")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", nargs="*", default=[], help="further words for `autoseg plan`, as --plan=--no-probe")
    parser.add_argument("--only", nargs="*", default=list(names), metavar="NAME")
    parser.add_argument("--folder", type=Path, required=True, help="for all that is written; results are kept there")
    return parser


def rule_of(options: argparse.Namespace) -> Rule:
    """The rule that was asked for; its folder is there from now on."""
    work = options.folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    return Rule(options.dataset, work, options.configuration, options.budget, options.seed, tuple(options.plan))


def command(*words: str) -> tuple[float, float, str]:
    """Seconds of an autoseg command, its largest process in GB, and what it said where it failed."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen([sys.executable, "-m", "autoseg", *words], stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        said = "" if started.returncode == 0 else " ".join(log.read().decode(errors="replace").split())[-300:]
    return time.monotonic() - began, used.ru_maxrss * 1024 / 1e9, said


def held_out_references(masks: Path, references: Path, folder: Path) -> Path:
    """A folder with the references of these masks alone: `evaluate` counts a reference without a mask as a failure."""
    folder.mkdir(exist_ok=True)
    for path in references.iterdir():
        if (masks / path.name).exists() and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
    return folder


def trained(rule: Rule, name: str, plan_words: Sequence[str], fold: str) -> dict[str, object]:
    """One fold of the plan of this name, planned with these words; `failed` tells what could not be done."""
    where = ("--work", str(rule.work))
    plan_path = rule.work / f"plan-{name}.json"
    if not plan_path.exists():
        *_, said = command("plan", str(rule.dataset), *where, "--name", name, *plan_words, *rule.plan)
        if said:
            return {"failed": said}
    plan = read_record(plan_path, Plan)
    if rule.configuration not in plan.configurations:
        why = [reason.because for reason in plan.reasons if reason.field == rule.configuration]
        return {"failed": " ".join(["not planned:", *why])}
    entry = plan.configurations[rule.configuration]
    chosen = ("--plan", name, "--configuration", rule.configuration, "--fold", fold, "--seed", str(rule.seed))
    seconds, gigabytes, said = command("train", *where, *chosen, "--budget", f"{rule.budget:.0f}s")
    if said:
        return {"failed": said}
    run = rule.work / "runs" / name / rule.configuration / f"fold_{fold}"
    course = json.loads((run / "receipt.json").read_text())["course"]
    return {
        "seconds": seconds,
        "gigabytes": gigabytes,
        "steps": course["steps"],
        "step_seconds": course["training_seconds"] / course["steps"],
        "weights": weights_of(entry, len(plan.channels), plan.labels),
        "patch": "×".join(map(str, entry.patch_size)),
        "batch": entry.batch_size,
        "mean_dice": json.loads((run / "summary.json").read_text())["mean_dice"],
    }


def kept(path: Path, rule: Rule, name: str, plan_words: Sequence[str], fold: str) -> dict[str, object]:
    """What was measured before, or is now; failures are told and tried again the next time."""
    if path.exists():
        found: dict[str, object] = json.loads(path.read_text())
        return found
    made = trained(rule, name, plan_words, fold)
    if "failed" not in made or str(made["failed"]).startswith("not planned"):
        path.write_text(json.dumps(made, indent=1))
    return made
