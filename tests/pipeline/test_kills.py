"""`kill -9` at random moments: nothing is lost but what the last saved state is old, and the end is the same bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from volume_builders import quicken

from autoseg.workspace import Workspace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forked processes and SIGKILL")


@pytest.fixture
def work(planned: Workspace) -> Workspace:
    """A plan with four steps an epoch, so that many states are saved."""
    quicken(planned, 4)
    return planned


def trials(work: Workspace, kills: int, epochs: int) -> list[str]:
    """Ways of the kills that were made, after all that has to hold was checked."""
    program = Path(__file__).with_name("kill_trials.py")
    command = [sys.executable, str(program), str(work.root), str(kills), str(epochs), "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    found = json.loads(ended.stdout)
    wanted = found["undisturbed"]
    assert len(wanted["rates"]) == epochs
    ways = []
    for run in found["disturbed"]:
        ways.extend(run["kills"])
        assert (run["status"], run["wrong"], run["leftovers"]) == (0, [], [])
        for name in ("rates", "losses", "dice", "summary", "model"):
            assert run[name] == wanted[name], name
    return ways


@pytest.mark.slow
def test_fifty_kills_change_nothing(work: Workspace) -> None:
    ways = trials(work, kills=60, epochs=24)
    assert len(ways) == 60
    assert min(ways.count("while saving"), ways.count("any moment")) > 10
