"""Steps as CUDA graphs: on a GPU, and their wiring without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from ranks_builders import SCENARIOS, Scenario, scenario_setup

from autoseg.networks.acceleration import ACCELERATIONS, Acceleration, usual
from autoseg.training import learner as learner_module
from autoseg.training.cases import hold_on_device
from autoseg.training.graph import StepGraph
from autoseg.training.learner import Learner
from autoseg.training.loss_sums import _per_label, _per_label_compared
from autoseg.training.patches import Batch, make_batch
from autoseg.training.setup import TrainingSetup

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

STEPS = 4


def losses_of(setup: TrainingSetup) -> tuple[list[float | None], Learner]:
    learner = Learner(setup)
    learner.record()
    with closing(learner.batches.stream(0)) as batches:
        return [learner.step(batches.next(), step, 1e-2) for step in range(STEPS)], learner


@needs_cuda
@pytest.mark.parametrize("name", SCENARIOS)
def test_on_a_gpu_a_graph_trains_as_pieces_do(name: str) -> None:
    device = torch.device("cuda")
    setup = scenario_setup(SCENARIOS[name])
    setup = replace(setup, device=device, train_cases=hold_on_device(setup.train_cases, device, 1 << 30))
    wanted, _ = losses_of(replace(setup, acceleration=ACCELERATIONS["eager"]))
    found, learner = losses_of(replace(setup, acceleration=ACCELERATIONS["graph"]))
    assert (learner._graph is not None) == (setup.samples_at_a_time is None and not setup.annotated)
    assert found == pytest.approx(wanted, rel=1e-3)


class FakeGraph:
    """A graph that computes again what was recorded, onto what was recorded."""

    recorded: StepGraph

    def replay(self) -> None:
        before = [parameter.grad for parameter in self.recorded._parameters]
        value = self.recorded._pass()
        self.recorded._value.copy_(value)
        for gradient, parameter in zip(self.recorded._gradients, self.recorded._parameters, strict=True):
            if gradient is not None:
                gradient.copy_(parameter.grad)
        for parameter, gradient in zip(self.recorded._parameters, before, strict=True):
            parameter.grad = gradient


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's names without a GPU, so that the CPU records."""

    class Stream:
        def __init__(self, *_: object, priority: int = 0) -> None:
            """All work is done at once."""

        def wait_stream(self, _: object) -> None:
            """There is nothing to wait for."""

        wait_event = wait_stream

        def record_event(self) -> str:
            return "event"

    @contextmanager
    def recording(_: object, stream: object) -> Iterator[None]:
        yield

    for name, value in {
        "CUDAGraph": FakeGraph,
        "Stream": Stream,
        "current_stream": lambda *_: Stream(),
        "set_stream": lambda _: None,
        "device": lambda _: nullcontext(),
        "stream": lambda _: nullcontext(),
        "graph": recording,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)


def recorded(learner: Learner) -> StepGraph:
    """The step of a learner on a CPU, recorded in noise."""
    setup = learner.setup
    images = torch.randn(setup.configuration.batch_size, setup.channels, *setup.configuration.patch_size)
    labels = torch.zeros(len(images), *setup.configuration.patch_size, dtype=torch.int16)
    graph = StepGraph(learner._backward.bare, learner.loss, learner.scaler.scale, images, labels)
    graph._graph.recorded = graph  # type: ignore[attr-defined]
    return graph


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize("name", ["per sample", "batch Dice", "regions", "ignore label", "partly annotated"])
def test_a_step_that_was_recorded_learns_alike(name: str) -> None:
    setup = scenario_setup(SCENARIOS[name])
    plain, graphed = Learner(setup), Learner(setup)
    graphed._graph = recorded(graphed)
    for step in range(STEPS):
        batches = [make_batch(setup.train_cases, plain.batches.sampling, step) for _ in range(2)]
        wanted = plain.step(batches[0], step, 1e-2)
        assert graphed.step(batches[1], step, 1e-2) == pytest.approx(wanted, rel=1e-6)
    for one, other in zip(plain.network.parameters(), graphed.network.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("fake_cuda")
def test_a_recorded_step_that_is_not_finite_changes_nothing() -> None:
    setup = scenario_setup(Scenario())
    learner = Learner(setup)
    learner._graph = recorded(learner)
    before = [parameter.clone() for parameter in learner.network.parameters()]
    batch = make_batch(setup.train_cases, learner.batches.sampling, 0)
    spoiled = replace(batch, images=batch.images * float("nan"))
    assert learner.step(spoiled, 0, 1e-2) is None
    assert all(torch.equal(one, other) for one, other in zip(before, learner.network.parameters(), strict=True))
    assert learner.step(make_batch(setup.train_cases, learner.batches.sampling, 1), 1, 1e-2) is not None


@pytest.mark.usefixtures("fake_cuda")
def test_recording_leaves_running_statistics_alone() -> None:
    setup = scenario_setup(Scenario())
    learner = Learner(setup)
    norm = torch.nn.BatchNorm3d(1)
    learner.network.register_forward_pre_hook(lambda _, images: (norm(images[0]),))
    learner.network.add_module("first", norm)
    recorded(learner)
    assert norm.running_mean is not None
    assert float(norm.running_mean) == 0.0
    assert int(norm.num_batches_tracked or 0) == 0


@pytest.mark.usefixtures("fake_cuda")
@pytest.mark.parametrize("room", [True, False])
def test_batches_are_augmented_ahead_where_there_is_room(monkeypatch: pytest.MonkeyPatch, room: bool) -> None:
    setup = scenario_setup(Scenario())
    learner, plain = Learner(setup), Learner(setup)
    make = learner.batches._augmented_ahead
    if not room:
        augmented, refused = learner.batches.augmented, iter([True])

        def refuse_once(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            if next(refused, False):
                augmented(batch)  # the generators have drawn
                raise torch.OutOfMemoryError("CUDA out of memory")
            return augmented(batch)

        monkeypatch.setattr(learner.batches, "augmented", refuse_once)
    ahead = make(setup.train_cases, learner.batches.sampling, 3, None)
    assert ahead.augmented == room
    assert ahead.ready == "event"
    found = learner.batches.taken(ahead)
    wanted = plain.batches.augmented(make_batch(setup.train_cases, plain.batches.sampling, 3))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.usefixtures("fake_cuda")
def test_a_recorded_step_makes_room_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    setup = scenario_setup(Scenario())
    setup = replace(setup, validation_cases=setup.train_cases)
    learner = Learner(setup)
    said: list[str] = []
    learner.say = said.append
    overlap, refused = learner._overlap, iter([True])

    def refuse_once() -> Any:
        if next(refused, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return overlap()

    monkeypatch.setattr(learner, "_overlap", refuse_once)
    learner._graph = recorded(learner)
    dice, _ = learner.online_dice()
    assert dice.per_label()
    assert said == [learner_module.GRAPH_GIVEN_UP]
    assert learner._graph is None
    assert all(parameter.grad is None for parameter in learner.network.parameters())
    refused = iter([True])
    with pytest.raises(torch.OutOfMemoryError):  # nothing is left to give up
        learner.online_dice()


def test_other_shapes_are_computed_in_pieces() -> None:
    graph = StepGraph.__new__(StepGraph)
    graph._images, graph._labels = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4)
    assert graph.fits(torch.ones(2, 1, 4, 4), torch.ones(2, 4, 4))
    assert not graph.fits(torch.ones(1, 1, 4, 4), torch.ones(1, 4, 4))


class _CudaSetup:
    """A setup that says that its device is a GPU."""

    def __init__(self, setup: TrainingSetup) -> None:
        self._setup = setup
        self.device = torch.device("cuda")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._setup, name)


@pytest.mark.parametrize("moment", ["recorded", "refused"])
def test_what_cannot_be_recorded_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    setup = replace(scenario_setup(Scenario()), acceleration=ACCELERATIONS["graph"])
    learner = Learner(setup)
    said: list[str] = []
    learner.say = said.append
    made: list[Any] = []

    def record(*arguments: Any) -> Any:
        if moment == "refused":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        made.append(arguments)
        return "graph"

    def on_the_cpu(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *arguments, device=None, generator=None, **words: function(*arguments, **words)

    learner.record()
    assert learner._graph is None
    assert said == ["A step can't be recorded as a CUDA graph on cpu: computing without it"]
    said.clear()
    monkeypatch.setattr(learner_module, "StepGraph", record)
    monkeypatch.setattr(torch, "Generator", lambda _: torch._C.Generator())
    for name in ("randn", "zeros"):
        monkeypatch.setattr(torch, name, on_the_cpu(getattr(torch, name)))
    monkeypatch.setattr(learner, "setup", _CudaSetup(setup))
    monkeypatch.setattr(learner_module.devices, "release_memory", lambda _: None)
    learner.record()
    if moment == "recorded":
        assert learner._graph == "graph"
        assert made[0][3].shape == (2, 1, 8, 8, 8)
        assert made[0][4].shape == (2, 8, 8, 8)
        assert said == []
    else:
        assert learner._graph is None
        assert said == [
            "A step can't be recorded as a CUDA graph here (RuntimeError: operation not permitted when stream is "
            "capturing): computing without it"
        ]


@pytest.mark.parametrize("heads", [2, 3, 19])
@pytest.mark.parametrize("weighted", [False, True])
def test_comparing_with_each_label_counts_the_same(heads: int, weighted: bool) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, heads, (3, 500))
    weights = torch.rand(3, 500) if weighted else None
    torch.testing.assert_close(_per_label_compared(labels, heads, weights), _per_label(labels, heads, weights))


def test_which_ways_suit_a_device_and_which_is_usual() -> None:
    cpu, cuda, mps = (torch.device(name) for name in ("cpu", "cuda", "mps"))
    assert [name for name, way in ACCELERATIONS.items() if way.suits(cpu)] == [
        "eager",
        "compile",
        "compile-channels-last",
    ]
    assert all(way.suits(cuda) for way in ACCELERATIONS.values())
    assert not Acceleration(graphed=True).suits(mps)
    assert usual(cuda, recordable=True) == "graph"
    assert usual(cuda, recordable=False) == usual(cpu, recordable=True) == usual(mps, recordable=True) == "eager"
