"""Segmenting from a program: a model that stays loaded, arrays in, arrays out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoseg.dataset.geometry import affine_rows, spans_space
from autoseg.dataset.itk import mask_like_image, volume_of_image
from autoseg.dataset.readers import read_image, write_labels
from autoseg.errors import PredictionError
from autoseg.inference.engines import TORCH, engine_device, engine_precision
from autoseg.inference.found_scene import FoundScene, found_scene
from autoseg.inference.joining import asked_precision, networks_of
from autoseg.inference.narrowing import narrowed
from autoseg.inference.predictor import load_models
from autoseg.inference.speeds import DEFAULT_SPEED, overridden, speed_mode
from autoseg.inference.thing_scores import ThingScores
from autoseg.inference.volume import predict_volume
from autoseg.inference.witness import Witness
from autoseg.model_file import read_header
from autoseg.records import Geometry, Volume


class Predictor:
    """A model ready to segment; the second call loads nothing, and several threads may call it.

    Args:
        model: a model file, or several whose scores or probabilities are averaged.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto" (what the model asks for, else what is fast), "float32", "bfloat16" or "float16".
        speed: "fast", "balanced" or "best": which networks, steps and mirrored copies, as the model says.
        mirror: average over mirrored copies, whatever the speed says: a little better, several times slower.
        step: distance of neighbouring tiles, as a share of the patch, whatever the speed says.
        only: labels that masks hold, by name; all others become background. None is all.
        roi: find the labels in a coarse pass first, and look closely there only.
        engine: what computes the networks: "torch", "onnx" (ONNX Runtime) or "openvino", the latter two on the CPU.

    Raises ModelError when a file cannot be used, UsageError for a device, precision, speed, label or engine that is not
    there.
    """

    def __init__(
        self,
        model: Path | str | Sequence[Path | str],
        *,
        device: str = "auto",
        precision: str = "auto",
        speed: str = DEFAULT_SPEED,
        mirror: bool | None = None,
        step: float | None = None,
        only: Sequence[str] | None = None,
        roi: bool = False,
        engine: str = TORCH,
    ) -> None:
        files = [Path(file) for file in ([model] if isinstance(model, (str, Path)) else model)]
        target = engine_device(engine, device)
        headers = [read_header(file) for file in files]
        given = {"mirror": mirror, "step": step, "labels": only and tuple(only), "roi": roi or None, "engine": engine}
        mode = overridden(speed_mode(headers, speed), headers, given, precision)
        asked = asked_precision(mode.precision, headers)
        loaded = load_models(files, target, engine_precision(engine, asked, target, networks_of(headers)))
        self._model = narrowed(loaded, mode.settings)
        self._settings = mode.settings
        # one volume at a time: two would only wait for each other's cores and hold twice the memory
        self._lock = threading.Lock()

    @property
    def labels(self) -> dict[str, int | tuple[int, ...]]:
        """Names of the labels and their values in masks."""
        return dict(self._model.labels.without_cores.names)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the order in which images need them."""
        return self._model.header.channels

    def predict(self, array: ArrayLike, affine: ArrayLike) -> NDArray[np.integer]:
        """The mask of an image, in the image's own axes.

        Args:
            array: intensities (i, j, k) or (channels, i, j, k), in the affine's axis order, as nibabel gives them.
            affine: 4x4, from indices (i, j, k) to millimetres in RAS+, NIfTI's convention.

        Returns:
            Label values (i, j, k).

        Raises PredictionError for an array or affine of another shape, or an image without the model's channels.
        """
        image = np.asarray(array)
        if image.ndim == 3:
            image = image[None]
        if image.ndim != 4:
            raise PredictionError(f"the array has {image.ndim} axes", remedy="Give (i, j, k) or (channels, i, j, k).")
        matrix = np.asarray(affine, dtype=np.float64)
        if matrix.shape != (4, 4) or not spans_space(matrix):
            raise PredictionError("the affine is no 4x4 matrix that maps voxels to millimetres", remedy="Correct it.")
        stored = np.ascontiguousarray(image.transpose(0, 3, 2, 1), dtype=np.float32)
        _, z, y, x = stored.shape
        return self._mask(Volume(stored, Geometry(shape=(z, y, x), affine=affine_rows(matrix)))).transpose(2, 1, 0)

    def predict_image(self, image: Any) -> Any:
        """The mask of a SimpleITK image, as a SimpleITK image on the same grid."""
        return mask_like_image(self._mask(volume_of_image(image)), image)

    def predict_file(
        self, image: Path | str | Sequence[Path | str], mask: Path | str | None = None
    ) -> NDArray[np.integer]:
        """The mask of an image file, or of one file per channel; written to `mask` if that is given.

        Returns label values (k, j, i) = (Z, Y, X) as stored in the file. A mask that is there already is not replaced:
        raises PredictionError.
        """
        files = [Path(file) for file in ([image] if isinstance(image, (str, Path)) else image)]
        if mask is not None and Path(mask).exists():
            raise PredictionError("exists already", where=mask, remedy="Name another file, or remove this one.")
        volume = read_image(files)
        found = self._mask(volume)
        if mask is not None:
            write_labels(Path(mask), found, volume.geometry, files[0])
        return found

    def predict_objects(self, image: Path | str | Sequence[Path | str]) -> FoundScene:
        """What a model that counts objects finds in an image file, or in one file per channel.

        Labels and ids (Z, Y, X) as stored in the file, a row per object with its score, and `masks` (N, Z, Y, X) on
        request. Raises PredictionError where the model counts none.
        """
        if not self._model.labels.things:
            raise PredictionError("the model counts no objects", remedy="Use predict_file for its labels.")
        return self._scene(read_image([Path(file) for file in ([image] if isinstance(image, (str, Path)) else image)]))

    def _mask(self, volume: Volume) -> NDArray[np.integer]:
        if self._model.labels.things:
            return self._scene(volume).labels
        with self._lock:
            return predict_volume(self._model, volume, settings=self._settings)

    def _scene(self, volume: Volume) -> FoundScene:
        labels = self._model.labels
        sure = ThingScores(labels, self._model.header.calibration, volume.geometry)
        witness = Witness(labels, sure)
        with self._lock:
            mask = predict_volume(self._model, volume, settings=self._settings, witness=witness)
        return found_scene(mask, labels, volume.geometry, sure.probabilities)
