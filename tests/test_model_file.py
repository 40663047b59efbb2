from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from step_builders import make_configuration, make_preparation
from torch import Tensor

from autoseg.errors import ModelError
from autoseg.model_file import HEADER_KEY, read_header, read_model, write_model
from autoseg.records import Labels, Member, ModelHeader, TrainingData

LABELS = Labels(names={"background": 0, "head": 1, "tail": 4})


def tiny_header(*members: str) -> ModelHeader:
    preparation = make_preparation(labels=LABELS)
    configuration = make_configuration(preparation=preparation, features_per_stage=(2, 4), blocks_per_stage=(1, 1))
    return ModelHeader(
        channels=("MRI",),
        labels=LABELS,
        members=tuple(Member(name=name, configuration=configuration, mirror_axes=(0, 1, 2)) for name in members),
        fingerprint=TrainingData(cases=3),
        versions={"b": "2", "a": "1"},
    )


def tensors(*members: str) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn((4, 2, 3, 3, 3), generator=generator)
    entries = {
        "stem.weight": weight.to(memory_format=torch.channels_last_3d),
        "stem.shared": weight,
        "bias": torch.nn.Parameter(torch.zeros(3)),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    return {member: dict(entries) for member in members}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.safetensors"
    header, written = (
        tiny_header("3d_fullres.fold_0", "3d_fullres.fold_1"),
        tensors("3d_fullres.fold_0", "3d_fullres.fold_1"),
    )
    write_model(path, header, written)
    found, members = read_model(path)
    assert found == header == read_header(path)
    assert members.keys() == written.keys()
    for member, entries in written.items():
        assert members[member].keys() == entries.keys()
        for name, tensor in entries.items():
            assert members[member][name].dtype == tensor.dtype
            assert torch.equal(members[member][name], tensor.detach())
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


def test_equal_models_are_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    header = tiny_header("one")
    write_model(first, header, tensors("one"))
    backwards = {"one": dict(reversed(tensors("one")["one"].items()))}
    write_model(second, header.model_copy(update={"versions": {"a": "1", "b": "2"}}), backwards)
    assert first.read_bytes() == second.read_bytes()


def test_there_is_one_sorted_metadata_key(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, tiny_header("one"), tensors("one"))
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == [HEADER_KEY]
    record = json.loads(metadata[HEADER_KEY])
    assert metadata[HEADER_KEY] == json.dumps(record, sort_keys=True)


def test_writing_replaces_a_file_that_was_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, tiny_header("one"), tensors("one"))
    _, members = read_model(path)
    write_model(path, tiny_header("two"), {"two": members["one"]})
    assert read_header(path).members[0].name == "two"


def test_members_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="members one"):
        write_model(tmp_path / "m.safetensors", tiny_header("one"), tensors("two"))
    with pytest.raises(ModelError, match="without '/'"):
        write_model(tmp_path / "m.safetensors", tiny_header("a/b"), tensors("a/b"))
    assert list(tmp_path.iterdir()) == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _not_ours(path: Path) -> None:
    save_file({"x": torch.zeros(2)}, str(path), metadata={"format": "pt"})


def _with_header(**changes: object) -> object:
    def damage(path: Path) -> None:
        record = {**tiny_header("one").model_dump(mode="json"), **changes}
        save_file({"one/x": torch.zeros(2)}, str(path), metadata={HEADER_KEY: json.dumps(record)})

    return damage


def _stray_tensor(path: Path) -> None:
    text = tiny_header("one").model_dump_json()
    save_file({"one/x": torch.zeros(2), "other/x": torch.zeros(2)}, str(path), metadata={HEADER_KEY: text})


def _no_tensors(path: Path) -> None:
    text = tiny_header("one", "two").model_dump_json()
    save_file({"one/x": torch.zeros(2)}, str(path), metadata={HEADER_KEY: text})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "no such model file"),
        (_cut, "damaged"),
        (_empty, "damaged"),
        (_not_ours, "not one of autoseg's"),
        (_with_header(format=99), "Update autoseg"),
        (_with_header(surprise=1), "surprise"),
        (_with_header(members=[]), "member"),
        (_stray_tensor, "other/x"),
        (_no_tensors, "'two'"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, tiny_header("one"), tensors("one"))
    damage(path)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


def test_reading_a_header_loads_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, tiny_header("one"), tensors("one"))
    code = (
        "import sys; from pathlib import Path; from autoseg.model_file import read_header;"
        f"read_header(Path({str(path)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("place", ["header", "tensors"])
def test_a_flipped_byte_is_noticed(place: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_model(path, tiny_header("a"), {"a": {"weight": torch.arange(20.0)}})
    content = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    content[content.index(b"8.5") if place == "header" else end + 40] ^= 1  # 8.5 becomes 9.5
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged: its checksum is"):
        read_model(path)
