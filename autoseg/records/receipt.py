"""What a result was made with and from: the same record for every stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from autoseg.records.base import Record

Stage = Literal["plan", "prepare", "train", "select", "predict", "evaluate"]


class Receipt(Record):
    """Versions, machine, options and hashes of one result: enough to tell later whether it would come out the same.

    It holds no case id, path, date, and no name of a user, machine or plan, so that it can travel in a model file.
    Hashes are hex digits of SHA-256. `inputs` and `results` have the same words for the same thing in every stage.
    """

    format: int = 1
    stage: Stage
    versions: dict[str, str]  # autoseg, python and the libraries that compute
    seed: int | None = None  # None: nothing is drawn
    device: str = ""  # in words, `devices.describe`; empty where no network is computed
    precision: str = ""
    threads: int | None = None  # of a process that computes networks; None where none does
    processes: int = 1  # that trained together
    options: dict[str, JsonValue] = Field(default_factory=dict)  # of the command, those that decide the result
    inputs: dict[str, str] = Field(default_factory=dict)  # "data", "plan", "folds", … -> hash
    results: dict[str, str] = Field(default_factory=dict)  # "fingerprint", "model", … -> hash
    seconds: dict[str, float] = Field(default_factory=dict)  # of each stage; decides nothing, and never in a model file
    course: dict[str, JsonValue] = Field(default_factory=dict)  # how it went: epochs, steps; follows from the rest
