"""What learns: network, optimizer and loss; one step, the online Dice, and what a saved state holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from autoseg import devices
from autoseg.devices import autocast, fetched
from autoseg.errors import is_out_of_memory
from autoseg.networks.acceleration import compiled_at_first_call, in_short
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.training.batches import Batches
from autoseg.training.checkpoint import RunState, load_state, packed_state, save_state, scaler_state, unpack_state
from autoseg.training.graph import StepGraph
from autoseg.training.losses import find_loss, of_totals
from autoseg.training.online import PatchDice
from autoseg.training.patches import Batch
from autoseg.training.ranks import Order
from autoseg.training.schedule import OPTIMIZERS
from autoseg.training.setup import TrainingSetup
from autoseg.training.step import Backward, BatchTotals, distributed, parts_of
from autoseg.training.stream import BatchStream

#: Patches of held-out cases for the online Dice, as a share of the training steps of an epoch.
ONLINE_SHARE = 0.1

#: What is said where a recorded step has to make room.
GRAPH_GIVEN_UP = "Memory ran out: the recorded step is given up, and computed piece by piece"

#: Parts that networks from outside may have: in training they would learn from the held-out patches, or draw.
LEARNING_OR_RANDOM = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)

#: Steps whose samples are drawn for the online Dice count from here, so that they never meet training's.
ONLINE_FIRST_STEP = 1 << 40


class Learner:
    """A network and all that changes it."""

    def __init__(self, setup: TrainingSetup) -> None:
        """Build the network with weights seeded by the settings."""
        self.setup = setup
        torch.manual_seed(setup.settings.seed)  # initial weights; nothing else draws from the global generator
        spec = setup.configuration.network_spec(setup.channels, setup.labels.heads)
        channels_last = setup.acceleration.channels_last
        self.network: nn.Module = prepare_for_device(build_network(spec), setup.device, channels_last=channels_last)
        if setup.initial is not None:
            setup.initial.copy_to(self.network)
        self.optimizer = OPTIMIZERS[setup.settings.optimizer](self.network, setup.settings)
        weights = self.network.state_dict()
        self.average = {name: tensor.detach().clone() for name, tensor in weights.items()}
        # what is whole numbers, like positions within a window, is no weight and stays
        self._averaged = [name for name, tensor in weights.items() if tensor.is_floating_point()]
        # parameters are their memory for good, which loading fills in place; a buffer may be put in another's place
        changing = any(buffer.is_floating_point() for buffer in self.network.buffers())
        self._followed = None if changing else [weights[name] for name in self._averaged]
        self.loss = of_totals(find_loss(setup.settings.loss)(setup.labels, setup.configuration.batch_dice))
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=setup.precision == "float16")
        self.batches = Batches(setup)
        self.say: Callable[[str], None] = lambda _words: None  # for what happens rarely
        self.makes_do = True  # whether less is computed at a time where memory runs out
        self._at_a_time = min(setup.samples_at_a_time or setup.largest_share, setup.largest_share)
        self._backward = self._built(setup.acceleration.compiled)
        self._graph: StepGraph | None = None

    def _built(self, compiled: bool) -> Backward:
        self._compiled = compiled  # whether it is to be seen yet if that works here
        compute = compiled_at_first_call(self.network) if compiled else self.network
        bare = BatchTotals(self.network, compute, self.loss, self.setup.precision)
        return Backward(distributed(bare, self.setup.ranks), bare, self.loss, self.setup.ranks, self.scaler.scale)

    # ------------------------------------------------------------------------------------------------- the steps

    def record(self) -> None:
        """Record the step as a CUDA graph, where that is asked for and works. Nothing else may use the device."""
        setup = self.setup
        if not setup.acceleration.graphed or self._graph is not None:
            return
        if setup.device.type != "cuda":
            self.say(f"A step can't be recorded as a CUDA graph on {setup.device.type}: computing without it")
            return
        if setup.ranks.several or self._at_a_time < setup.largest_share or self.batches.partly_drawn:
            return  # such steps are none that a graph could make
        patch = setup.configuration.patch_size
        noise = torch.Generator(setup.device).manual_seed(0)
        images = torch.randn(setup.largest_share, setup.channels, *patch, generator=noise, device=setup.device)
        labels = torch.zeros(setup.largest_share, *patch, dtype=torch.int16, device=setup.device)
        self.network.train()
        try:
            self._graph = StepGraph(self._backward.bare, self.loss, self.scaler.scale, images, labels)
        except Exception as error:  # there is another way to compute the same, which raises what it can't do either
            if is_out_of_memory(error) and not self.makes_do:
                raise
            self.say(f"A step can't be recorded as a CUDA graph here ({in_short(error)}): computing without it")
        if self._graph is None:  # what the error held is free now
            devices.release_memory(setup.device)

    def forget_graph(self) -> bool:
        """Give the memory of a recorded step back; whether there was one."""
        if self._graph is None:
            return False
        self._graph = None
        self.optimizer.zero_grad(set_to_none=True)  # gradients lie in it
        devices.release_memory(self.setup.device)
        return True

    def step(self, batch: Batch, number: int, rate: float) -> float | None:
        """One step of training, the `number`-th, with this process's share of the batch.

        Gives the loss of the whole batch, or None where loss or gradient was not finite; then nothing has changed.
        """
        images, labels = self.batches.taken(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        drawn = self.batches.drawn(batch)
        value: float | torch.Tensor | None
        if self._graph is not None and drawn is None and self._graph.fits(images, labels):
            value = self._graph(images, labels)
        else:
            value = self._gradients(images, labels, drawn)
        loss = None if value is None else self._update(value)
        if loss is not None:
            self._follow(number)
        return loss

    def _gradients(self, images: torch.Tensor, labels: torch.Tensor, drawn: torch.Tensor | None) -> float | None:
        """The loss, its gradients computed; in smaller parts, or not compiled, where it does not work otherwise."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                in_parts = self._at_a_time < self.setup.largest_share
                value = self._backward(parts_of(images, labels, drawn, self._at_a_time), in_parts)
            except Exception as error:
                if self.setup.ranks.several:
                    raise  # the others would not do the same
                self._do_without(error)
            else:
                self._compiled = False  # it has worked once
                return value
            devices.release_memory(self.setup.device)

    def _do_without(self, error: Exception) -> None:
        """Change how the next try computes: smaller parts where memory ran out, not compiled where that fails.

        Raises the error where it is of another kind, or there is nothing to do without.
        """
        if is_out_of_memory(error) and self.makes_do and self.forget_graph():
            self.say(GRAPH_GIVEN_UP)
        elif is_out_of_memory(error) and self.makes_do and self._at_a_time > 1:
            self._at_a_time = -(-self._at_a_time // 2)
            self.say(f"Memory ran out: {self._at_a_time} samples are computed at a time, to the same gradient")
        elif self._compiled and not is_out_of_memory(error):
            self.say(f"torch.compile does not work here ({in_short(error)}): computing without it")
            self._backward = self._built(compiled=False)
        else:
            raise error

    def _update(self, value: float | torch.Tensor) -> float | None:
        """One step of the optimizer, and the loss; None, and no step, where loss or gradient is not finite."""
        if self.scaler.is_enabled() and not math.isfinite(float(value)):
            return None
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.setup.settings.gradient_clip)
        # both numbers at once: the host waits for the device
        loss, size = (value, float(norm)) if isinstance(value, float) else fetched(torch.stack([value, norm]))
        # in float16 gradients overflow now and then: the scaler passes over such a step and scales less
        if not math.isfinite(loss) or not (self.scaler.is_enabled() or math.isfinite(size)):
            return None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def _follow(self, number: int) -> None:
        """Let the running average of the weights follow the last ones."""
        decay = self.setup.settings.ema_decay
        if decay > 0 and self.setup.ranks.is_first:
            # a short memory at the beginning, or the average would hold the random weights for long
            keep = min(decay, (1 + number) / (10 + number))
            followed = self._followed
            if followed is None:
                state = self.network.state_dict()
                followed = [state[name] for name in self._averaged]
            with torch.no_grad():
                torch._foreach_lerp_([self.average[name] for name in self._averaged], followed, 1 - keep)

    @torch.no_grad()
    def online_dice(self) -> tuple[PatchDice, float]:
        """Overlap over patches of the held-out cases, and the seconds of waiting for these patches.

        They are the same patches each time, and none where nothing is held out.
        """
        try:
            return self._overlap()
        except Exception as error:
            if not (is_out_of_memory(error) and self.makes_do and self.forget_graph()):
                raise
            self.say(GRAPH_GIVEN_UP)
        return self._overlap()

    def _overlap(self) -> tuple[PatchDice, float]:
        setup = self.setup
        dice = PatchDice(setup.labels)
        if not setup.validation_cases:
            return dice, 0.0
        sampling = self.batches.sampling
        sampling = replace(sampling, initial_size=sampling.patch_size, focus=None)
        batches = max(1, round(setup.configuration.steps_per_epoch * ONLINE_SHARE))
        self.network.train()  # instance norm has no other mode; deep supervision stays as it is
        for module in self.network.modules():
            if isinstance(module, LEARNING_OR_RANDOM):
                module.eval()
        waited = 0.0
        with closing(BatchStream(setup.validation_cases, sampling, ONLINE_FIRST_STEP, steps=batches)) as stream:
            for _ in range(batches):
                batch, seconds = stream.next_timed()
                waited += seconds
                images = self.batches.seen(torch.as_tensor(batch.images).to(setup.device))
                with autocast(setup.device, setup.precision):
                    outputs = self.network(images)
                finest = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
                dice.add(finest, torch.as_tensor(batch.labels).to(setup.device), self.batches.drawn(batch))
        return dice, waited

    # ----------------------------------------------------------------------------------------- weights and states

    def weights(self, steps_made: int) -> dict[str, torch.Tensor]:
        """The weights to use: their running average where that is on, else the last ones."""
        if self.setup.settings.ema_decay > 0 and steps_made > 0:
            return self.average
        return {name: tensor.detach() for name, tensor in self.network.state_dict().items()}

    def save(self, path: Path, state: RunState) -> None:
        """Write counters and tensors to a file, atomically."""
        state = state.model_copy(update={"scaler": self.scaler.state_dict()})
        save_state(path, state, self.network, self.optimizer, self.average)

    def load(self, path: Path) -> RunState:
        """Take over a saved state; gives its counters."""
        state = load_state(path, self.network, self.optimizer, self.average)
        if state.scaler and self.scaler.is_enabled():
            self.scaler.load_state_dict(scaler_state(self.scaler, state.scaler))
        if self.setup.ranks.several:
            packed = packed_state(self.network, self.optimizer, self.scaler)
            self.setup.ranks.tell(Order.STATE, content=packed)
        return state

    def take_over(self, packed: bytes) -> None:
        """Take over the state that the first process has loaded."""
        unpack_state(packed, self.network, self.optimizer, self.scaler)
