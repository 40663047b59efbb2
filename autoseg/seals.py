"""A checksum in the metadata of safetensors files, by which damage is noticed.

It covers the metadata and the name and bytes of every tensor. It finds what disks and transfers do, not what people do.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch is not loaded by who only looks at metadata
    from torch import Tensor

_CHECKSUM = "checksum"


def sealed(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """A JSON object as text with sorted keys, with the checksum of itself and of tensors on the CPU added."""
    return _text({**record, _CHECKSUM: _checksum(record, tensors)})


def unsealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The object without its checksum."""
    return {name: value for name, value in record.items() if name != _CHECKSUM}


def why_not_intact(content: bytes, key: str, tensors: Mapping[str, Tensor]) -> str | None:
    """Why the bytes of a safetensors file are not those that were written, in words; None where nothing says so.

    `key` names the metadata that were `sealed`; `tensors` are what was read of the file.
    """
    size = int.from_bytes(content[:8], "little")
    try:
        record = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][key])
        known = record[_CHECKSUM]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None  # another program's, or an earlier version's
    found = _checksum(unsealed(record), tensors)
    return None if known == found else f"its checksum is {found} and should be {known}"


def _checksum(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    import torch

    found = zlib.crc32(_text(record).encode("ascii"))
    for name in sorted(tensors):
        found = zlib.crc32(name.encode("utf-8"), found)
        found = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, ensure_ascii=True, allow_nan=False)
