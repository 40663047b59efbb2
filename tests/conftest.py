"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autoseg.threads import suit_the_machine

if "PYTEST_XDIST_WORKER" in os.environ:  # tests run side by side: a thread each, for what they start as well
    os.environ.setdefault("OMP_NUM_THREADS", "1")
suit_the_machine()  # before any test module loads torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recorded outputs and real data that lie beside the checkout on some machines; skips where they are absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir() or not (folder / "golden").is_dir():
        pytest.skip("the real data and recorded outputs (../shared) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def example_data() -> Path:
    """The synthetic dataset of the repository."""
    return REPOSITORY / "example_data"
