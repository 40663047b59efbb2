"""Trains in child processes and kills them with SIGKILL at random moments; a program for `test_kills.py`.

    python kill_trials.py WORK KILLS EPOCHS SEED

Each child is a fork of this process, so that no trial pays for the imports. Half of the kills wait until a state is
being written. Runs are begun anew until there were so many kills; every run is then left to finish. The results go to
stdout as JSON: per run the hash of its model, its curves, and what was found wrong after a kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import matplotlib.figure  # noqa: F401  (loaded here, so that no child spends its life on it)
import torch
import torch._dynamo

from autoseg.errors import AutosegError
from autoseg.files import ASIDE_PREFIX, file_hash
from autoseg.model_file import read_header
from autoseg.pipeline.train import train
from autoseg.progress import SilentProgress
from autoseg.training.checkpoint import read_state
from autoseg.workspace import Run, Workspace

#: Seconds that a child lives at most before it is killed.
LONGEST_LIFE = 1.5


def begin(work: Workspace, epochs: int) -> int:
    """A child that trains; its process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        train(work, epochs=epochs, seed=3, device="cpu", workers=0, progress=SilentProgress())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill(child: int, run: Run, chance: random.Random) -> str:
    """Kill the child at some moment; how: "any moment", "while saving", or "" where it ended before."""
    while_saving = chance.random() < 0.5
    moment = time.monotonic() + chance.uniform(0.0, LONGEST_LIFE)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit(f"a training ended by itself with status {status}")
            return ""
        if time.monotonic() > moment and (not while_saving or any(run.folder.glob(f"{ASIDE_PREFIX}*.safetensors"))):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "while saving" if while_saving else "any moment"
        time.sleep(0.0003)


def faults(run: Run, step_before: int) -> tuple[list[str], int]:
    """What is wrong on disk after a kill, and the step of the saved state."""
    found, step = [], 0
    try:
        if run.state_tensors.exists():
            state = read_state(run.state_tensors)
            step = state.step
            epochs = len(run.metrics.read_text().splitlines()) if run.metrics.exists() else 0
            if epochs < state.epoch:  # the other way round, an epoch is computed again and its line written anew
                found.append(f"{epochs} epochs are logged, the state has {state.epoch}")
        if step < step_before:
            found.append(f"the state went back from step {step_before} to {step}")
        for model in (run.model,):
            if model.exists():
                read_header(model)
    except AutosegError as error:
        found.append(str(error))
    return found, step


def one_run(work: Workspace, epochs: int, kills: int, chance: random.Random) -> dict[str, object]:
    """Train with at most so many kills; what came out."""
    run = work.run("default", "3d_fullres", "0")
    wrong: list[str] = []
    done: list[str] = []
    step = 0
    while len(done) < kills:
        how = kill(begin(work, epochs), run, chance)
        if not how:
            break
        done.append(how)
        found, step = faults(run, step)
        wrong.extend(found)
    _, status = os.waitpid(begin(work, epochs), 0)
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    result = {
        "kills": done,
        "wrong": wrong,
        "status": status,
        "model": file_hash(run.model),
        "rates": [record["learning_rate"] for record in records],
        "losses": [record["train_loss"] for record in records],
        "dice": [record["patch_dice"] for record in records],
        "summary": json.loads(run.summary.read_text())["mean_dice"],
        "leftovers": [path.name for path in run.folder.glob(f"{ASIDE_PREFIX}*")],
    }
    run.folder.rename(run.folder.with_name(f"done_{time.monotonic_ns()}"))
    return result


def main() -> None:
    work, kills, epochs, seed = Workspace(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    undisturbed = one_run(work, epochs, 0, chance)
    disturbed: list[dict[str, object]] = []
    made = 0
    while made < kills:
        disturbed.append(one_run(work, epochs, kills - made, chance))
        made += len(disturbed[-1]["kills"])  # type: ignore[arg-type]
    sys.stdout.write(json.dumps({"undisturbed": undisturbed, "disturbed": disturbed}))


if __name__ == "__main__":
    main()
