from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoseg.locks import HeldByAnother, locked

HOLD = "import sys, time; from pathlib import Path; from autoseg.locks import locked\n"
HOLD += "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock."""
    program = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_at_a_time_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with locked(path):
            assert path.read_text() == str(os.getpid())
            with pytest.raises(HeldByAnother) as held, locked(path):
                pass
            assert held.value.owner == str(os.getpid())
        assert not path.exists()


def test_another_process_keeps_it_until_it_ends(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(HeldByAnother) as held, locked(tmp_path / "lock"):
        pass
    assert held.value.owner == str(holder.pid)
    holder.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_no_clock_matters(tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> None:
    year = 365 * 86400.0
    for jump in (year, -year):
        now = time.time() + jump
        monkeypatch.setattr(time, "time", lambda now=now: now)
        os.utime(tmp_path / "lock", (now, now))
        with pytest.raises(HeldByAnother), locked(tmp_path / "lock"):
            pass
    assert holder.poll() is None


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("999999999 0.0")
    with locked(path):
        assert path.read_text() == str(os.getpid())
    assert not path.exists()
