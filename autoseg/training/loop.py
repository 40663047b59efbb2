"""The training loop: network, optimizer, steps, epochs; resumable at any step."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoseg.devices import Precision, autocast
from autoseg.errors import TrainingError
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.records import Configuration, EpochRecord, Labels, Shape, TrainSettings
from autoseg.training.augmentation import AUGMENTATIONS, initial_patch_size
from autoseg.training.checkpoint import RunState, load_state, save_state
from autoseg.training.losses import LOSSES, deep_supervision_loss
from autoseg.training.online import PatchDice
from autoseg.training.patches import Batch, Sampling, TrainingCase, make_batch
from autoseg.training.schedule import OPTIMIZERS, learning_rate

#: Seconds between two saved states at most: what a kill may cost.
SAVE_EVERY_SECONDS = 300.0

#: Steps in a row with a non-finite loss after which training gives up.
MOST_SKIPPED = 20

#: Patches of held-out cases for the online Dice, as a share of the training steps of an epoch.
ONLINE_SHARE = 0.1

#: Steps whose samples are drawn for the online Dice count from here, so that they never meet training's.
ONLINE_FIRST_STEP = 1 << 40


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """All that a training needs; the same setup gives the same training."""

    configuration: Configuration
    channels: int
    labels: Labels
    mirror_axes: tuple[int, ...]
    settings: TrainSettings
    train_cases: Sequence[TrainingCase]
    validation_cases: Sequence[TrainingCase]
    device: torch.device
    precision: Precision

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, where epochs decide."""
        return self.settings.epochs * self.configuration.steps_per_epoch

    @property
    def patch_mirror_axes(self) -> tuple[int, ...]:
        """Mirror axes counted within the patch: 2D patches have no Z."""
        if self.configuration.dimensions == 3:
            return self.mirror_axes
        return tuple(axis - 1 for axis in self.mirror_axes if axis > 0)

    @property
    def patch_size(self) -> Shape:
        """Patch as (Z, Y, X), Z = 1 for 2D."""
        patch = self.configuration.patch_size
        return (1, patch[0], patch[1]) if len(patch) == 2 else (patch[0], patch[1], patch[2])


class Training:
    """A training under way."""

    def __init__(self, setup: TrainingSetup, state_path: Path) -> None:
        """Build the network with seeded weights, and take over a saved state if there is one."""
        self.setup = setup
        self.state_path = state_path
        self.loop_seconds: float | None = None  # seconds of training in all, where a time budget was given
        torch.manual_seed(setup.settings.seed)  # initial weights; nothing else draws from the global generator
        spec = setup.configuration.network_spec(setup.channels, setup.labels.heads)
        self.network: nn.Module = prepare_for_device(build_network(spec), setup.device)
        self.optimizer = OPTIMIZERS[setup.settings.optimizer](self.network, setup.settings)
        self.average = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.loss = LOSSES[setup.settings.loss](setup.labels, setup.configuration.batch_dice)
        self.scaler = torch.amp.GradScaler(setup.device.type, enabled=setup.precision == "float16")
        self.state = RunState()
        self.resumed = state_path.exists()
        if self.resumed:
            self.state = load_state(state_path, self.network, self.optimizer, self.average)
        augmentation = AUGMENTATIONS[setup.settings.augmentation]
        self.augmentation = augmentation
        self._sampling = self._make_sampling(initial_patch_size(setup.configuration.patch_size, augmentation))
        self._skipped_in_a_row = 0
        self._clock_zero = 0.0  # when the run would have begun, had it never been interrupted

    def _make_sampling(self, initial: tuple[int, ...]) -> Sampling:
        setup = self.setup
        full: Shape = (1, initial[0], initial[1]) if len(initial) == 2 else (initial[0], initial[1], initial[2])
        return Sampling(
            patch_size=setup.patch_size,
            initial_size=full,
            batch_size=setup.configuration.batch_size,
            foreground_share=setup.settings.foreground_share,
            has_ignore=setup.labels.ignore is not None,
            seed=setup.settings.seed,
        )

    @property
    def done(self) -> float:
        """Share of the run that is done, 0 to 1: of the epochs, or of the time."""
        if self.loop_seconds is not None:
            return min(1.0, self.state.seconds / max(self.loop_seconds, 1e-9))
        return min(1.0, self.state.step / self.setup.total_steps)

    def limit(self, loop_seconds: float, overhead_seconds: float, score_with_mirroring: bool) -> None:
        """Let the clock decide: the schedule ends after so many seconds of training, over all starts."""
        self.loop_seconds = loop_seconds
        self.state = self.state.model_copy(
            update={"overhead_seconds": overhead_seconds, "score_with_mirroring": score_with_mirroring}
        )

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to use: their running average where that is on, else the last ones."""
        if self.setup.settings.ema_decay > 0 and self.state.step > 0:
            return self.average
        return {name: tensor.detach() for name, tensor in self.network.state_dict().items()}

    def save(self) -> None:
        """Write the state; what was there before stays until the new one is complete."""
        save_state(self.state_path, self.state, self.network, self.optimizer, self.average)

    def epochs(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[EpochRecord]:
        """Train; one record after each epoch, the state saved before it is given.

        `should_stop` is asked after each step: when true, the state is saved and the iteration ends.
        """
        steps_per_epoch = self.setup.configuration.steps_per_epoch
        # the run's clock goes on while states are saved and curves drawn: a budget is wall time
        self._clock_zero = time.monotonic() - self.state.seconds
        batches = BatchStream(self.setup.train_cases, self._sampling, self.state.step)
        saved = time.monotonic()
        try:
            while self.done < 1.0:
                while self.done < 1.0 and self.state.step < (self.state.epoch + 1) * steps_per_epoch:
                    self._step(batches)
                    if should_stop():
                        self.save()
                        return
                    if time.monotonic() - saved > SAVE_EVERY_SECONDS:
                        self.save()
                        saved = time.monotonic()
                record = self._finish_epoch()
                self.save()
                saved = time.monotonic()
                yield record
        finally:
            batches.close()

    def _step(self, batches: BatchStream) -> None:
        began = time.monotonic()
        batch = batches.next()
        waited = time.monotonic() - began
        images, labels = self._augmented(batch)
        rate = learning_rate(self.setup.settings, self.state.step, self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.setup.device, self.setup.precision):
            outputs = self.network(images)
        loss = deep_supervision_loss(outputs, labels, self.loss)
        value = float(loss.detach())
        if math.isfinite(value):
            self._update(loss)
            self._skipped_in_a_row = 0
        else:
            self._skip(batch)
        state = self.state
        self.state = state.model_copy(
            update={
                "step": state.step + 1,
                "seconds": time.monotonic() - self._clock_zero,
                "loss_sum": state.loss_sum + (value if math.isfinite(value) else 0.0),
                "loss_steps": state.loss_steps + math.isfinite(value),
                "wait_seconds": state.wait_seconds + waited,
                "skipped_steps": state.skipped_steps + (not math.isfinite(value)),
            }
        )

    def _augmented(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        images = torch.from_numpy(batch.images).to(self.setup.device, non_blocking=True)
        labels = torch.from_numpy(batch.labels).to(self.setup.device, non_blocking=True)
        return self.augmentation.apply(
            images,
            labels,
            batch.generators,
            self.setup.configuration.patch_size,
            self.setup.patch_mirror_axes,
            self._masked_channels(),
        )

    def _masked_channels(self) -> tuple[int, ...]:
        masked = self.setup.configuration.preparation.use_mask_for_normalization
        return tuple(channel for channel, use in enumerate(masked) if use)

    def _update(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.setup.settings.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        decay = self.setup.settings.ema_decay
        if decay > 0:
            # a short memory at the beginning, or the average would hold the random weights for long
            keep = min(decay, (1 + self.state.step) / (10 + self.state.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.network.state_dict().values()), 1 - keep)

    def _skip(self, batch: Batch) -> None:
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= MOST_SKIPPED:
            raise TrainingError(
                f"the loss was not finite for {MOST_SKIPPED} steps in a row; last batch: {', '.join(batch.cases)}",
                where=self.state_path.parent,
                remedy="Look at these cases with `autoseg check`, or train with a lower learning rate.",
            )

    def _finish_epoch(self) -> EpochRecord:
        dice = self._online_dice()
        state = self.state
        steps = max(state.loss_steps, 1)
        per_label = dice.per_label()
        present = [value for value in per_label.values() if value is not None]
        seconds = time.monotonic() - self._clock_zero
        record = EpochRecord(
            epoch=state.epoch,
            step=state.step,
            seconds=seconds,
            data_wait=state.wait_seconds / max(seconds - state.epoch_began, 1e-9),
            learning_rate=learning_rate(self.setup.settings, state.step, self.done),
            train_loss=state.loss_sum / steps,
            patch_dice=float(np.mean(present)) if present else None,
            patch_dice_per_label=per_label,
        )
        self.state = state.model_copy(
            update={
                "epoch": state.epoch + 1,
                "seconds": seconds,
                "epoch_began": seconds,
                "loss_sum": 0.0,
                "loss_steps": 0,
                "wait_seconds": 0.0,
            }
        )
        return record

    @torch.no_grad()
    def _online_dice(self) -> PatchDice:
        setup = self.setup
        dice = PatchDice(setup.labels)
        if not setup.validation_cases:
            return dice
        sampling = Sampling(**{**vars(self._sampling), "initial_size": self._sampling.patch_size})
        batches = max(1, round(setup.configuration.steps_per_epoch * ONLINE_SHARE))
        self.network.train()  # instance norm has no other mode; deep supervision stays as it is
        for number in range(batches):
            batch = make_batch(setup.validation_cases, sampling, ONLINE_FIRST_STEP + number)
            with autocast(setup.device, setup.precision):
                outputs = self.network(torch.from_numpy(batch.images).to(setup.device))
            finest = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
            dice.add(finest, torch.from_numpy(batch.labels).to(setup.device))
        return dice


class BatchStream:
    """Batches of successive steps, cropped by a thread while the device computes."""

    def __init__(self, cases: Sequence[TrainingCase], sampling: Sampling, first_step: int, ahead: int = 2) -> None:
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._fill, args=(cases, sampling, first_step), daemon=True, name="batches"
        )
        self._thread.start()

    def _fill(self, cases: Sequence[TrainingCase], sampling: Sampling, step: int) -> None:
        while not self._closed.is_set():
            try:
                item: Batch | BaseException = make_batch(cases, sampling, step)
            except BaseException as error:  # it must reach the loop, which would wait for ever
                item = error
            while not self._closed.is_set():
                with suppress(queue.Full):
                    self._queue.put(item, timeout=0.1)
                    break
            if isinstance(item, BaseException):
                return
            step += 1

    def next(self) -> Batch:
        """The next batch; raises what cropping raised."""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(timeout=5)
