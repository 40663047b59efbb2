"""A program that segments with exported networks and knows nothing of ours: it follows steps.json, and no more.

Written from docs/reference/exported-steps.md with numpy, scipy, nibabel and ONNX Runtime.
"""

from __future__ import annotations

import json
from itertools import combinations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import onnxruntime
from scipy import ndimage


def segment(folder: Path, files: list[Path]) -> np.ndarray:
    """The mask of an image (one file per channel), in nibabel's axis order."""
    bundle = json.loads((folder / "steps.json").read_text())
    state: dict[str, Any] = {"files": [nibabel.load(file) for file in files], "folder": folder}
    results = []
    for group in bundle["groups"]:
        for step in group["steps"]:
            if group["first_stage"] and step["step"] == "resample_scores":
                break  # the grid is that of the group that asks for the labels
            STEPS[step["step"]](state, step, group)
        if group["first_stage"]:
            last = {"scores": state["scores"], "spacing": state["new_spacing"], "steps": group["steps"][-2:]}
            state.setdefault("first stages", {})[group["name"]] = last
        else:
            results.append(state["scores"])
    state["scores"] = np.mean(results, axis=0) if len(results) > 1 else results[0]
    for step in bundle["after"]:
        STEPS[step["step"]](state, step, {})
    mask: np.ndarray = state["mask"]
    return mask


def orient(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    images = state["files"]
    state["orientation"] = nibabel.io_orientation(images[0].affine)
    if step["to"] == "ras":
        images = [nibabel.as_closest_canonical(image) for image in images]
    else:
        state["orientation"] = None
    state["image"] = np.stack([image.get_fdata(dtype=np.float32).transpose(2, 1, 0) for image in images])
    state["spacing"] = np.asarray(images[0].header.get_zooms()[:3], dtype=float)[::-1]


def transpose(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    state["order"] = step["order"]
    state["image"] = state["image"].transpose(0, *(axis + 1 for axis in step["order"]))
    state["spacing"] = state["spacing"][step["order"]]


def crop_to_nonzero(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    inside = ndimage.binary_fill_holes((state["image"] != 0).any(0))
    (box,) = ndimage.find_objects(inside.astype(int))
    state["box"], state["whole"] = box, inside.shape
    state["image"], state["inside"] = state["image"][(slice(None), *box)].copy(), inside[box]


def normalize(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    values = state["image"][step["channel"]]
    if step["clip"] is not None:
        values = np.clip(values, *step["clip"])
    where = state["inside"] if step["nonzero_only"] else np.ones(values.shape, bool)
    chosen = values[where].astype(np.float64)
    subtract = {"mean": chosen.mean(), "minimum": chosen.min()}.get(step["subtract"], step["subtract"])
    divide = {"deviation": chosen.std(), "range": np.ptp(chosen)}.get(step["divide"], step["divide"])
    values = values.copy()
    values[where] = (chosen - subtract) / max(divide, step["smallest_divisor"])
    state["image"][step["channel"]] = values


def apart(spacings: tuple[Any, Any], above: float) -> int | None:
    for spacing in spacings:
        if max(spacing) / min(spacing) > above:
            coarsest = np.flatnonzero(np.asarray(spacing) == max(spacing))
            return int(coarsest[0]) if len(coarsest) == 1 else None
    return None


def zoomed(values: np.ndarray, shape: tuple[int, ...], orders: list[int]) -> np.ndarray:
    """Axis by axis: interpolation along one axis knows nothing of the others."""
    for axis, (size, order) in enumerate(zip(shape, orders, strict=True)):
        factors = [size / values.shape[axis] if axis == other else 1.0 for other in range(3)]
        if values.shape[axis] == size:
            continue
        if order == 0:
            index = np.floor((np.arange(size) + 0.5) * values.shape[axis] / size).astype(int)
            values = values.take(index, axis)
        else:
            values = ndimage.zoom(values.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
    return values


def resample(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    image, old = state["image"], state["spacing"]
    new = np.array([own if size is None else size for own, size in zip(old, step["spacing"], strict=True)])
    shape = tuple(max(1, round(size * o / n)) for size, o, n in zip(image.shape[1:], old, new, strict=True))
    state |= {"before": image.shape[1:], "new_spacing": new}
    if shape == image.shape[1:]:
        return
    axis = apart((old, new), step["apart_above"])
    orders = [0 if number == axis else step["order"] for number in range(3)]
    channels = []
    for values in image:
        result = zoomed(values, shape, orders)
        if step["keep_range"]:
            axes = tuple(number for number in range(3) if number != axis)
            low, high = values.min(axes, keepdims=True), values.max(axes, keepdims=True)
            if axis is not None:
                low, high = (zoomed(limit, (shape[0], 1, 1), [0] * 3) for limit in (low, high))
            result = np.clip(result, low, high)
        channels.append(result.astype(np.float32))
    state["image"] = np.stack(channels)


def add_first_stage(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    first = state["first stages"][step["group"]]
    resampling, decision = first["steps"]
    inner = {"scores": first["scores"], "before": state["image"].shape[1:]}
    inner |= {"new_spacing": first["spacing"], "spacing": first["spacing"]}
    resample_scores(inner, resampling, group)
    decide(inner, decision, group)
    maps = [inner["mask"] == number for number in range(1, step["labels"] + 1)]
    state["image"] = np.concatenate([state["image"], np.stack(maps).astype(np.float32)])


def pad(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    missing = [max(0, to - size) for to, size in zip(step["to"], state["image"].shape[1:], strict=True)]
    state["pads"] = [(count // 2, count - count // 2) for count in missing]
    state["image"] = np.pad(state["image"], [(0, 0), *state["pads"]])


def tile(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    starts = []
    for size, patch in zip(state["image"].shape[1:], step["patch"], strict=True):
        count = int(np.ceil((size - patch) / (patch * step["largest_step"]))) + 1
        distance = (size - patch) / (count - 1) if count > 1 else 0.0
        starts.append([round(distance * number) for number in range(count)])
    state |= {"starts": list(product(*starts)), "patch": step["patch"], "mirror": ()}


def mirror(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    state["mirror"] = step["axes"]


def run_networks(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    sessions = [onnxruntime.InferenceSession(str(state["folder"] / entry["file"])) for entry in group["networks"]]
    input_name = group["networks"][0]["input"]
    subsets = [axes for count in range(len(state["mirror"]) + 1) for axes in combinations(state["mirror"], count)]
    state["patches"] = []
    for start in state["starts"]:
        place = tuple(slice(begin, begin + size) for begin, size in zip(start, state["patch"], strict=True))
        total = 0.0
        for axes in subsets:
            flips = [axis + 1 for axis in axes]
            patch = np.flip(state["image"][(slice(None), *place)], flips)[None]
            patch = np.ascontiguousarray(patch[:, :, 0] if step["squeeze"] else patch)
            scores = sum(session.run(None, {input_name: patch})[0][0] for session in sessions) / len(sessions)
            total = total + np.flip(scores[:, None] if step["squeeze"] else scores, flips)
        state["patches"].append((place, total / len(subsets)))


def add_up(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    window = np.ones(())
    for size in state["patch"]:
        window = np.multiply.outer(window, np.exp(-0.5 * ((np.arange(size) - size // 2) / (size * step["sigma"])) ** 2))
    outputs = group["networks"][0]["outputs"]
    sums, weights = np.zeros((outputs, *state["image"].shape[1:])), np.zeros(state["image"].shape[1:])
    for place, scores in state["patches"]:
        sums[(slice(None), *place)] += scores * window
        weights[place] += window
    state["scores"] = sums / weights


def unpad(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    shape = state["scores"].shape[1:]
    inner = [slice(before, size - after) for size, (before, after) in zip(shape, state["pads"], strict=True)]
    state["scores"] = state["scores"][(slice(None), *inner)]


def resample_scores(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    axis = apart((state["new_spacing"], state["spacing"]), step["apart_above"])
    orders = [step["apart_order"] if number == axis else step["order"] for number in range(3)]
    state["scores"] = np.stack([zoomed(values, state["before"], orders) for values in state["scores"]])


def probabilities(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    scores = state["scores"]
    if step["function"] == "sigmoid":
        state["scores"] = 1 / (1 + np.exp(-scores))
    else:
        exponents = np.exp(scores - scores.max(0))
        state["scores"] = exponents / exponents.sum(0)


def decide(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    scores, values = state["scores"], np.asarray(step["values"])
    if step["rule"] == "highest":
        state["mask"] = values[scores.argmax(0)]
    elif step["rule"] == "write_in_order":
        mask = np.zeros(scores.shape[1:], int)
        for value, output in zip(values, scores, strict=True):
            mask[output > step["above"]] = value
        state["mask"] = mask
    else:
        if step["log_odds"]:
            scores = np.log(np.clip(scores, 1e-6, 1 - 1e-6) / (1 - np.clip(scores, 1e-6, 1 - 1e-6)))
        sums = np.stack([scores[list(outputs)].sum(0) for outputs in step["sums"]])
        state["mask"] = values[sums.argmax(0)]


def uncrop(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    whole = np.zeros(state["whole"], state["mask"].dtype)
    whole[state["box"]] = state["mask"]
    state["mask"] = whole


def transpose_back(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    state["mask"] = state["mask"].transpose(np.argsort(state["order"]))


def orient_back(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    mask = state["mask"].transpose(2, 1, 0)
    if state["orientation"] is not None:
        ras = nibabel.orientations.axcodes2ornt("RAS")
        mask = nibabel.apply_orientation(mask, nibabel.orientations.ornt_transform(ras, state["orientation"]))
    state["mask"] = mask


def keep_largest(state: dict[str, Any], step: dict[str, Any], group: dict[str, Any]) -> None:
    inside = np.isin(state["mask"], step["values"])
    numbers, count = ndimage.label(inside, np.ones((3, 3, 3)) if step["connectivity"] == 26 else None)
    if count > 1:
        largest = np.bincount(numbers.ravel())[1:].argmax() + 1
        state["mask"] = np.where(inside & (numbers != largest), 0, state["mask"])


STEPS = {
    function.__name__: function
    for function in (
        *(
            orient,
            transpose,
            crop_to_nonzero,
            normalize,
            resample,
            add_first_stage,
            pad,
            tile,
            mirror,
            run_networks,
            add_up,
            unpad,
        ),
        *(resample_scores, probabilities, decide, uncrop, transpose_back, orient_back, keep_largest),
    )
}
