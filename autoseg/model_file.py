"""A model is one safetensors file: tensors `<member>/<name>` and one metadata key with a ModelHeader as JSON.

One key only, and its JSON sorted: safetensors writes several keys in random order, and equal models must be equal
bytes. Reading runs no code from the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from autoseg.errors import ModelError, RecordError
from autoseg.files import parse_record, written_aside
from autoseg.records import ModelHeader
from autoseg.seals import sealed, unsealed, why_not_intact

if TYPE_CHECKING:  # a header can be read, and this module imported, without the seconds that loading torch takes
    from torch import Tensor

#: The one metadata key.
HEADER_KEY = "autoseg"

_SEPARATOR = "/"

#: For each earlier format of the header what makes the next one of it; files of every past format are read.
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda header: header,  # 2 added what `autoseg select` finds out, all of it optional
}


def write_model(path: Path, header: ModelHeader, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write a model file, atomically; equal headers and tensors give equal bytes.

    `tensors` maps each member's name to its tensors by name, on any device. Raises ModelError when the members of
    header and tensors differ or a member's name cannot stand in a file, DiskFullError when there is no room.
    """
    from safetensors.torch import save

    names = [member.name for member in header.members]
    if len(set(names)) != len(names) or set(names) != set(tensors):
        raise ModelError(
            f"the header names the members {', '.join(names)}, the tensors belong to {', '.join(tensors)}", where=path
        )
    unfit = [name for name in names if not name or _SEPARATOR in name]
    if unfit:
        raise ModelError(f"a member cannot be called {unfit[0]!r}", where=path, remedy="Choose a name without '/'.")
    # detached copies of their own: safetensors refuses tensors that share memory, and stores plain memory order
    stored = {
        f"{member}{_SEPARATOR}{name}": tensor.detach().to("cpu", copy=True).contiguous()
        for member, entries in tensors.items()
        for name, tensor in entries.items()
    }
    text = sealed(header.model_dump(mode="json"), stored)
    with written_aside(path) as aside:
        # written by Python, not by safetensors, whose errors would hide that the disk is full
        aside.write_bytes(save(stored, metadata={HEADER_KEY: text}))


def read_header(path: Path) -> ModelHeader:
    """What a model file says of itself; reads no tensor and needs no torch.

    Raises ModelError when the file is missing, damaged, not one of ours, or of another format.
    """
    try:
        with safe_open(str(path), framework="np") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise ModelError("there is no such model file", where=path, remedy="Name one with --model.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    if HEADER_KEY not in metadata:
        raise ModelError(
            "is a safetensors file, but not one of autoseg's", where=path, remedy="Name a model.safetensors of a run."
        )
    try:
        return parse_record(_upgraded(metadata[HEADER_KEY]), ModelHeader, where=path)
    except RecordError as error:
        raise ModelError(error.what + _writer(metadata[HEADER_KEY]), where=path, remedy=error.remedy) from error


def _writer(text: str) -> str:
    """Which version wrote a header that cannot be used, in words; empty where it does not say."""
    try:
        version = json.loads(text)["versions"]["autoseg"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return f"; autoseg {version} wrote it" if isinstance(version, str) else ""


def count_parameters(path: Path) -> dict[str, int]:
    """Numbers in the tensors of each member of a model file; reads none of them. Raises ModelError as `read_header`."""
    counts: dict[str, int] = {}
    try:
        with safe_open(str(path), framework="np") as file:
            for key in file.keys():  # noqa: SIM118  (it is no mapping)
                member = key.partition(_SEPARATOR)[0]
                counts[member] = counts.get(member, 0) + math.prod(file.get_slice(key).get_shape())
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return counts


def _upgraded(text: str) -> str:
    """The header's JSON in the current format, without the checksum; what is no header of ours stays as it is."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(record, dict):
        return text
    while isinstance(number := record.get("format"), int) and number in _UPGRADES:
        record = {**_UPGRADES[number](record), "format": number + 1}
    return json.dumps(unsealed(record))


def read_model(path: Path) -> tuple[ModelHeader, dict[str, dict[str, Tensor]]]:
    """A model file's header, and per member its tensors by name, on the CPU.

    Raises ModelError as `read_header`, and when header and tensors do not fit together.
    """
    from safetensors.torch import load

    header = read_header(path)
    try:
        content = path.read_bytes()  # not mapped: a mapped file cannot be replaced on Windows
        stored = load(content)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    fault = why_not_intact(content, HEADER_KEY, stored)
    if fault is not None:
        raise ModelError(f"is damaged: {fault}", where=path, remedy=_AGAIN)
    members: dict[str, dict[str, Tensor]] = {member.name: {} for member in header.members}
    for key, tensor in stored.items():
        member, separator, name = key.partition(_SEPARATOR)
        if not separator or member not in members:
            raise ModelError(f"holds a tensor {key!r} of no member", where=path, remedy=_AGAIN)
        members[member][name] = tensor
    empty = [name for name, entries in members.items() if not entries]
    if empty or not members:
        what = f"holds no tensors of its member {empty[0]!r}" if empty else "has no members"
        raise ModelError(what, where=path, remedy=_AGAIN)
    return header, members


_AGAIN = "Copy the file again, or train the model anew."


#: How PyTorch's own files begin: a zip, or a pickle.
_PYTORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")


def _damaged(path: Path, error: Exception) -> ModelError:
    if _begins_with(path, _PYTORCH_MAGIC):
        return ModelError(
            "is a checkpoint of PyTorch, which says neither what network it is of nor how images are prepared",
            where=path,
            remedy="A model of nnU-Net is imported with its folder: autoseg import-nnunet FOLDER.",
        )
    return ModelError(
        f"cannot be read as a model file, it is damaged or of another kind ({error})", where=path, remedy=_AGAIN
    )


def _begins_with(path: Path, magic: tuple[bytes, ...]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(8).startswith(magic)
    except OSError:
        return False
