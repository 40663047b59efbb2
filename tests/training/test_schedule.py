from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from autoseg.errors import TrainingError, UsageError
from autoseg.records import TrainSettings
from autoseg.training.checkpoint import RunState, load_state, save_state
from autoseg.training.schedule import OPTIMIZERS, SCHEDULES, learning_rate


def test_nnunet_rates() -> None:
    settings = TrainSettings(epochs=1000, learning_rate=0.01, weight_decay=3e-5, optimizer="sgd")
    assert learning_rate(settings, 0, 0.0) == pytest.approx(0.01)
    assert learning_rate(settings, 9, 0.5) == pytest.approx(0.0053589, abs=1e-7)
    assert learning_rate(settings, 9, 0.999) == pytest.approx(1.99526e-5, rel=1e-5)
    assert learning_rate(settings, 9, 1.0) == 0.0
    assert learning_rate(settings, 9, 1.7) == 0.0


def test_warm_up_is_linear() -> None:
    settings = TrainSettings(epochs=1, learning_rate=1.0, weight_decay=0.0, warmup_steps=4)
    assert [learning_rate(settings, step, 0.0) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_schedule_ends_at_nothing_and_never_rises(name: str) -> None:
    settings = TrainSettings(epochs=1, learning_rate=0.2, weight_decay=0.0, schedule=name)
    rates = [learning_rate(settings, 0, done / 100) for done in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[-1] == 0.0
    assert rates == sorted(rates, reverse=True)
    assert 0 < SCHEDULES[name].final_decay < 1


def test_warmup_stable_decay_stays_and_falls_in_its_last_fifth() -> None:
    settings = TrainSettings(epochs=1, learning_rate=0.2, weight_decay=0.0, schedule="wsd")
    assert [learning_rate(settings, 0, done) for done in (0.0, 0.5, 0.8, 0.85, 1.0)] == pytest.approx(
        [0.2, 0.2, 0.2, 0.1, 0.0]
    )


def test_an_unknown_schedule_is_the_users_mistake() -> None:
    settings = TrainSettings(epochs=1, learning_rate=0.2, weight_decay=0.0, schedule="cosine")
    with pytest.raises(UsageError, match="poly"):
        learning_rate(settings, 0, 0.0)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 3, 3, bias=True), nn.GroupNorm(3, 3)).to(memory_format=torch.channels_last_3d)


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        optimizer.zero_grad()
        network(torch.randn(2, 1, 6, 6, 6, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_a_resumed_optimizer_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    settings = TrainSettings(epochs=1, learning_rate=0.05, weight_decay=0.01, optimizer=name)
    straight = small()
    optimizer = OPTIMIZERS[name](straight, settings)
    steps(straight, optimizer, range(3))
    average = {key: value.detach().clone() + 1 for key, value in straight.state_dict().items()}
    save_state(tmp_path / "state.safetensors", RunState(epoch=2, step=3, seconds=1.5), straight, optimizer, average)
    steps(straight, optimizer, range(3, 6))

    resumed = small()
    again = OPTIMIZERS[name](resumed, settings)
    restored = {key: torch.zeros_like(value) for key, value in resumed.state_dict().items()}
    state = load_state(tmp_path / "state.safetensors", resumed, again, restored)
    assert (state.epoch, state.step, state.seconds) == (2, 3, 1.5)
    assert all(torch.equal(restored[key], average[key]) for key in average)
    steps(resumed, again, range(3, 6))
    for left, right in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_damaged_state_is_our_error(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    network = small()
    optimizer = OPTIMIZERS["sgd"](network, TrainSettings(epochs=1, learning_rate=0.1, weight_decay=0.0))
    save_state(path, RunState(), network, optimizer, {})
    other = nn.Sequential(nn.Conv3d(1, 4, 3))
    with pytest.raises(TrainingError, match="another network"):
        load_state(path, other, optimizer, {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TrainingError, match="cannot be read"):
        load_state(path, network, optimizer, {})
