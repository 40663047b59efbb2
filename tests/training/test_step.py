"""Steps that do not work as they are: in parts where memory runs out, not compiled where no compiler works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from ranks_builders import Scenario, scenario_setup

from autoseg.networks.acceleration import ACCELERATIONS, in_short
from autoseg.training.learner import Learner
from autoseg.training.patches import make_batch
from autoseg.training.step import samples_at_a_time

#: Only CUDA has a type for it.
OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
)


def stepped(setup: Any, spoil: Callable[[Learner], None] = lambda _: None) -> tuple[list[float], Learner, list[str]]:
    learner = Learner(setup)
    said: list[str] = []
    learner.say = said.append
    spoil(learner)
    losses = []
    for step in range(2):
        loss = learner.step(make_batch(setup.train_cases, learner.batches.sampling, step), step, 1e-2)
        assert loss is not None
        losses.append(loss)
    return losses, learner, said


def same_weights(one: Learner, other: Learner) -> None:
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(other.network.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_memory_that_runs_out_makes_parts_smaller(batch_dice: bool, error: Exception) -> None:
    setup = scenario_setup(Scenario(batch_size=5, batch_dice=batch_dice))

    def small(learner: Learner) -> None:
        def refuse(_: object, images: tuple[torch.Tensor, ...]) -> None:
            if len(images[0]) > 2:
                raise error

        learner.network.register_forward_pre_hook(refuse)

    wanted, whole, _ = stepped(setup)
    found, parts, said = stepped(setup, small)
    assert said == [f"Memory ran out: {size} samples are computed at a time, to the same gradient" for size in (3, 2)]
    assert found == pytest.approx(wanted, rel=1e-5)
    same_weights(whole, parts)


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize("acceleration", ["eager", "compile"])
def test_a_single_sample_that_does_not_fit_is_an_error(
    error: Exception, acceleration: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda network: network)

    def full(learner: Learner) -> None:
        def refuse(*_: object) -> None:
            raise error

        learner.network.register_forward_pre_hook(refuse)

    with pytest.raises(type(error), match="out of memory"):
        stepped(replace(scenario_setup(Scenario()), acceleration=ACCELERATIONS[acceleration]), full)


@pytest.mark.parametrize("moment", ["when asked for", "in the first step"])
def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    setup = scenario_setup(Scenario())
    wanted, eager, _ = stepped(setup)

    def compiled(_: Any) -> Callable[..., Any]:
        if moment == "when asked for":
            raise RuntimeError("torch.compile is not supported on this system\nat all")

        def fail(*_: Any) -> Any:
            raise RuntimeError("Cannot find a working triton installation\npages more")

        return fail

    monkeypatch.setattr(torch, "compile", compiled)
    found, fallen_back, said = stepped(replace(setup, acceleration=ACCELERATIONS["compile"]))
    why = "Cannot find a working triton installation" if moment == "in the first step" else "torch.compile is not supp"
    assert len(said) == 1
    assert said[0].startswith(f"torch.compile does not work here (RuntimeError: {why}")
    assert "pages" not in said[0]
    assert found == wanted
    same_weights(eager, fallen_back)


def test_an_error_that_is_not_the_compilers_is_not_hidden() -> None:
    def broken(learner: Learner) -> None:
        def refuse(*_: object) -> None:
            raise ValueError("shapes differ")

        learner.network.register_forward_pre_hook(refuse)

    with pytest.raises(ValueError, match="shapes differ"):
        stepped(scenario_setup(Scenario()), broken)


def test_weights_laid_out_channels_last_train_alike() -> None:
    setup = scenario_setup(Scenario())
    wanted, plain, _ = stepped(setup)
    found, other, _ = stepped(replace(setup, acceleration=ACCELERATIONS["channels-last"]))
    weight = next(tensor for tensor in other.network.state_dict().values() if tensor.ndim == 5 and tensor.shape[1] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert found == pytest.approx(wanted, rel=1e-5)
    same_weights(plain, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compile", "compile-channels-last"])
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_networks_train_alike(name: str) -> None:
    setup = scenario_setup(Scenario())
    wanted, eager, _ = stepped(setup)
    found, compiled, said = stepped(replace(setup, acceleration=ACCELERATIONS[name]))
    if said:
        pytest.skip(said[0])
    assert found == pytest.approx(wanted, rel=1e-4)
    for key, tensor in eager.network.state_dict().items():
        torch.testing.assert_close(compiled.network.state_dict()[key], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "limit", "wanted"), [(8, 800, 8), (8, 799, 4), (8, 399, 2), (5, 400, 3), (2, 1, 1), (1, 1, 1)]
)
def test_samples_are_halved_until_they_fit(samples: int, limit: int, wanted: int) -> None:
    assert samples_at_a_time(samples, lambda count: 100 * count, limit) == wanted


def test_errors_in_short() -> None:
    assert in_short(RuntimeError("\n  one \ntwo")) == "RuntimeError: one"
    assert in_short(KeyError()) == "KeyError"
