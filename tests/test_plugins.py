from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoseg.errors import ModelError, UsageError
from autoseg.plugins import imported_plugins, load_plugins, require_allowed
from autoseg.workers.pool import WorkerPool


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, from which modules may be imported; what was imported is forgotten."""
    path, known = list(sys.path), set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autoseg.plugins._imported", [])
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def test_a_module_in_the_current_folder_is_imported_once(modules: Path) -> None:
    (modules / "counted_parts.py").write_text("with open('ran', 'a') as file:\n    file.write('x')\n")
    assert load_plugins(["counted_parts", "counted_parts"]) == ("counted_parts",)
    assert load_plugins(["counted_parts"]) == ()
    assert (modules / "ran").read_text() == "x"
    assert imported_plugins() == ("counted_parts",)


def test_what_cannot_be_imported_is_told(modules: Path) -> None:
    (modules / "broken_parts.py").write_text("1 / 0\n")
    (modules / "needy_parts.py").write_text("import no_such_library_at_all\n")
    for name, told in (
        ("absent_parts", "there is no module 'absent_parts'"),
        ("broken_parts", "ZeroDivisionError"),
        ("needy_parts", "no_such_library_at_all"),
        ("../evil", "not the name of a module"),
    ):
        with pytest.raises(UsageError, match=told):
            load_plugins([name])
    assert imported_plugins() == ()


def test_worker_processes_know_the_modules(modules: Path) -> None:
    (modules / "reading_parts.py").write_text(
        "from autoseg.dataset.readers import NIFTI, READERS\nREADERS['.odd'] = NIFTI\n"
    )
    load_plugins(["reading_parts"])
    from autoseg.dataset.readers import READERS, ending_of

    try:
        assert ending_of("image.odd") == ".odd"
        with WorkerPool(2) as pool:
            endings = {outcome.unwrap() for outcome in pool.map(ending_of, ["a.odd", "b.odd"])}
    finally:
        del READERS[".odd"]
    assert endings == {".odd"}


def test_a_model_never_decides_which_code_runs() -> None:
    require_allowed(["mine"], ["mine", "other"], "model")
    with pytest.raises(ModelError, match="--use theirs"):
        require_allowed(["mine", "theirs"], ["mine"], "model")
