"""Held-out patches: they teach the network nothing, draw no random numbers, and waiting for them is told."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_builders import tiny_setup

from autoseg.networks.catalog import NETWORKS
from autoseg.records import NetworkSpec
from autoseg.training.learner import ONLINE_FIRST_STEP, Learner
from autoseg.training.patches import Batch, make_batch


class Normed(nn.Module):
    """A network from outside, with statistics that it learns in passing and outputs that it drops at random."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.body = nn.Conv3d(spec.channels, 4, 3, padding=1)
        self.norm, self.dropped = nn.BatchNorm3d(4), nn.Dropout3d(0.5)
        self.head = nn.Conv3d(4, spec.heads, 1)
        self.deep_supervision = spec.deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        scores: Tensor = self.head(self.dropped(self.norm(self.body(image))))
        return [scores] if self.deep_supervision else scores


def test_waiting_for_held_out_patches_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def slow(cases: Any, sampling: Any, step: int, places: Any) -> Batch:
        time.sleep(0.05)
        made.append(step)
        return make_batch(cases, sampling, step, places)

    monkeypatch.setattr("autoseg.training.stream.make_batch", slow)
    _, waited = Learner(tiny_setup()).online_dice()
    assert waited >= 0.04
    assert made == list(range(ONLINE_FIRST_STEP, ONLINE_FIRST_STEP + len(made)))  # as many as are looked at


def test_the_online_dice_leaves_the_network_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "normed", Normed)
    setup = tiny_setup()
    learner = Learner(replace(setup, configuration=setup.configuration.model_copy(update={"network": "normed"})))
    learner.step(make_batch(setup.train_cases, learner.batches.sampling, 0), 0, 1e-2)
    before = {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}
    assert before["norm.num_batches_tracked"] == 1
    found = [learner.online_dice()[0].per_label() for _ in range(2)]
    assert found[0] == found[1]
    after = learner.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    learner.step(make_batch(setup.train_cases, learner.batches.sampling, 1), 1, 1e-2)
    assert learner.network.state_dict()["norm.num_batches_tracked"] == 2  # training goes on learning them
