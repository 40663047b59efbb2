"""The house rules that a machine can keep: import directions, fences around libraries, no print, no hidden settings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "autoseg"

#: Parts of the package by level: a part imports only from lower levels (and within itself).
LEVELS = (
    ("errors", "progress", "interrupts", "threads", "machine", "words", "__init__"),
    ("files", "locks", "seals", "plugins", "plain_names", "torchrun"),
    ("records",),
    ("arrays", "networks", "workers", "workspace"),
    ("dataset", "evaluation", "model_file", "devices"),
    ("fingerprint",),
    ("planning", "preprocessing"),
    ("hardware", "training", "inference", "report", "viewer", "interop"),
    ("pipeline", "predictor"),
    ("console", "options"),
    ("tables",),
    ("result_tables",),
    ("cli",),
    ("__main__",),
)
#: What the package itself offers: imported when it is asked for, not when the package is.
OFFERED = {("__init__", "predictor")}

LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}

#: Top-level names of a library -> the parts that may import it. A module named `…_torch.py` in arrays may import torch.
FENCES = {
    "torch": ("networks", "training", "inference", "interop", "model_file", "seals", "devices", "pipeline"),
    "safetensors": ("training", "model_file"),
    "nibabel": ("dataset", "interop"),
    "SimpleITK": ("dataset", "interop"),
    "PIL": ("dataset", "interop", "report"),
    "tifffile": ("dataset", "interop"),
    "pydicom": ("dataset", "interop"),
    "highdicom": ("interop",),
    "blosc2": ("preprocessing",),
    "typer": ("cli", "options"),
    "rich": ("console", "tables", "result_tables", "cli"),
    "matplotlib": ("report",),
    "fcntl": ("locks",),
    "msvcrt": ("locks",),
    "jinja2": ("report",),
    "onnxruntime": ("inference",),
    "openvino": ("inference",),
}

#: Modules to which a thread library and torchrun speak through variables.
SPOKEN_TO = ("threads.py", "torchrun.py")

MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """The part of the package that a module belongs to: its folder, or its own name at the top."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Dotted name and line of every import of a module, wherever it stands, but not those for type checkers."""
    for node in _running(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import"
            module = node.module or ""
            # `from autoseg import files` names a part, `from autoseg.files import x` has it in the module
            yield from (
                (f"{module}.{alias.name}" if module == "autoseg" else module, node.lineno) for alias in node.names
            )


def _running(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _running(child)


def part_imported(dotted: str) -> str | None:
    """The part of our package that a dotted name belongs to; None for other packages."""
    words = dotted.split(".")
    if words[0] != "autoseg":
        return None
    return words[1] if len(words) > 1 and not words[1].startswith("__") else "__init__"


def test_every_part_has_a_level() -> None:
    parts = {part_of(path) for path in MODULES}
    assert parts <= set(LEVEL), f"give a level to: {sorted(parts - set(LEVEL))}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    wrong = []
    for dotted, line in imports(path):
        other = part_imported(dotted)
        if other is None or other == part or (part, other) in OFFERED:
            continue
        if other not in LEVEL or LEVEL[other] >= LEVEL[part]:
            wrong.append(f"{name_of(path)}:{line}: {part} (level {LEVEL[part]}) imports {dotted}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_behind_their_fences(path: Path) -> None:
    part = part_of(path)
    wrong = []
    for dotted, line in imports(path):
        library = dotted.split(".")[0]
        allowed = library not in FENCES or part in FENCES[library]
        if library == "torch" and part == "arrays" and path.stem.endswith("_torch"):
            allowed = True
        if not allowed:
            wrong.append(f"{name_of(path)}:{line}: {library} belongs into {', '.join(FENCES[library])}")
    assert not wrong, "\n".join(wrong)


def test_modules_of_a_part_do_not_import_in_circles() -> None:
    names = {_dotted(path): path for path in MODULES}
    edges = {
        name: {other for other in _modules_named(path, set(names)) if other != name} for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...]) -> None:
        assert name not in chain, f"circle: {' -> '.join((*chain, name))}"
        if name in done:
            return
        for other in sorted(edges[name]):
            visit(other, (*chain, name))
        done.add(name)

    for name in sorted(edges):
        visit(name, ())


def _dotted(path: Path) -> str:
    words = ("autoseg", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def _modules_named(path: Path, known: set[str]) -> set[str]:
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return (found & known) - {"autoseg"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_print_no_assert_no_environment(path: Path) -> None:
    wrong = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Assert):
            wrong.append((node.lineno, "assert vanishes under -O; raise an AutosegError, or leave it to a test"))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("print", "input", "eval", "exec")
        ):
            wrong.append((node.lineno, f"{node.func.id}() has no place in the package"))
        elif path.name in SPOKEN_TO and isinstance(node, ast.Attribute) and node.attr == "environ":
            continue
        elif isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "putenv"):
            wrong.append((node.lineno, "no environment variable changes behaviour"))
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            wrong.append((node.lineno, "bare except"))
        elif isinstance(node, ast.Global):
            wrong.append((node.lineno, "no global state"))
    assert not wrong, "\n".join(f"{name_of(path)}:{line}: {why}" for line, why in wrong)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_begin_alike(path: Path) -> None:
    assert ast.get_docstring(tree(path)), f"{name_of(path)} says nothing of its purpose"
    if path.name != "__init__.py":
        futures = [node for node in tree(path).body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
        assert futures, f"{name_of(path)} lacks `from __future__ import annotations`"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_processes_are_spawned_and_nothing_is_pickled_from_files(path: Path) -> None:
    for dotted, line in imports(path):
        top = dotted.split(".")[0]
        assert top not in ("pickle", "pwd", "resource"), f"{name_of(path)}:{line}: {dotted}"
        assert top != "multiprocessing" or part_of(path) == "workers", f"{name_of(path)}:{line}: use autoseg.workers"


def test_the_fences_are_seen_by_this_test(tmp_path: Path) -> None:
    """The test's own eyes: imports within functions count, those for type checkers do not."""
    sample = tmp_path / "sample.py"
    sample.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from autoseg import files\n    import nibabel.affines\n",
        encoding="utf-8",
    )
    assert {dotted for dotted, _ in imports(sample)} == {"typing", "autoseg.files", "nibabel.affines"}
    assert part_imported("autoseg.files") == "files"
    assert part_imported("autoseg.__version__") == "__init__"


def test_no_part_is_called_utils() -> None:
    assert not [path for path in MODULES if path.stem in ("utils", "util", "helpers", "misc", "common")]
