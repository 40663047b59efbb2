"""Fingerprints from files: ours, or nnU-Net's beside its dataset.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoseg.errors import RecordError
from autoseg.files import parse_record
from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autoseg.records import Fingerprint


def read_fingerprint(file: Path) -> Fingerprint:
    """The fingerprint in a file: nnU-Net's in a record with its dataset.json, or ours. Raises RecordError."""
    record = read_json_object(file)
    if "dataset_json" in record or "shapes_after_crop" in record:
        try:
            return fingerprint_from_nnunet({"name": file.stem, **record})
        except RecordError as error:
            raise RecordError(f"{error.where}: {error.what}", where=file, remedy=error.remedy) from None
    return parse_record(json.dumps(record), Fingerprint, where=file)


def read_json_object(file: Path) -> Mapping[str, Any]:
    """The JSON object in a file. Raises RecordError where there is none."""
    try:
        record = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RecordError("does not exist", where=file) from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"is not valid JSON ({error})", where=file) from error
    if isinstance(record, list):
        raise RecordError(f"holds a list of {len(record)}", where=file, remedy="Give a file with one record of it.")
    if not isinstance(record, dict):
        raise RecordError("holds no JSON object", where=file)
    return record
