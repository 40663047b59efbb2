"""A model file of every format that was ever written is read, and makes the masks that it made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from autoseg.model_file import read_header
from autoseg.records import ModelHeader

FOLDER = Path(__file__).resolve().parent / "data_formats"
FILES = sorted(FOLDER.glob("format_*.safetensors"))
sys.path.insert(0, str(FOLDER))
import make_model_files  # noqa: E402


def format_of(path: Path) -> int:
    return int(path.stem.split("_")[1])


def test_there_is_a_file_of_every_format() -> None:
    current = ModelHeader.model_fields["format"].default
    assert {format_of(path) for path in FILES} == set(range(1, current + 1)), "run make_model_files.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_read_and_segments_as_it_did(path: Path) -> None:
    header = read_header(path)
    assert header.format == ModelHeader.model_fields["format"].default
    assert header.channels == ("MR",)
    rows = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    recorded = np.array([[int(value) for value in row] for row in rows])
    found = make_model_files.mask_of(path)
    # other versions of torch may round otherwise where two scores are nearly equal
    assert (found.reshape(recorded.shape) == recorded).mean() > 0.99
