"""The documentation does what it says: its blocks run, its links lead somewhere, the reference is the help.

`python tests/test_docs.py` writes docs/reference/commands.md anew.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from autoseg import cli

REPOSITORY = Path(__file__).resolve().parents[1]
README = REPOSITORY / "README.md"
REFERENCE = REPOSITORY / "docs" / "reference" / "commands.md"
PAGES = (README, *sorted((REPOSITORY / "docs").rglob("*.md")))
OTHERS = tuple(REPOSITORY / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"))
COMMANDS = tuple(command.__name__.replace("_", "-") for command in cli.COMMANDS)

#: What a reader has minutes for and a test has not. Each must occur in the README.
SHORTER = {"--budget 2min": "--epochs 1"}

#: Longest that one command of the documentation may take, in seconds, on a busy machine.
PATIENCE = 600

#: A program that types commands one after the other until one fails, a form feed between their words.
TYPIST = """
import shlex
import sys

from autoseg.cli import main

for number, line in enumerate(sys.argv[1:]):
    print("\\f" * bool(number), end="", flush=True)
    code = main(shlex.split(line))
    if code:
        sys.exit(f"{line} ended with {code}")
"""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of the fenced blocks of a page, in order."""
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield match[1], match[2]


def runnable(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page that are run; all shell lines are commands of ours."""
    return [(language, text) for language, text in blocks(page) if language in ("sh", "python")]


def shell_commands(text: str) -> list[str]:
    """The lines of a shell block, with what takes minutes cut short."""
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in a folder that holds example_data; a command that another page did is left out.

    Commands run in this process, since each would spend seconds on loading what all of them use; Python in its own.
    """
    done = folder / "commands-done.txt"
    done.touch()
    for language, text in runnable(page):
        if language == "python":
            run([sys.executable, "-W", "error", "-c", text], folder)
            continue
        for line in shell_commands(text):
            assert line.startswith("autoseg "), f"{page_name(page)}: sh is for commands of autoseg only: {line}"
            before = done.read_text(encoding="utf-8").splitlines()
            if line in before:
                continue
            with contextlib.chdir(folder):
                code = cli.main(shlex.split(line.removeprefix("autoseg ")))
            assert code == 0, f"{page_name(page)}: {line} ended with {code}"
            done.write_text("\n".join([*before, line]), encoding="utf-8")


def type_commands(lines: Sequence[str], folder: Path) -> list[str]:
    """Type commands of ours in a folder; what each of them wrote to stdout."""
    return run([sys.executable, "-c", TYPIST, *lines], folder).split("\f") if lines else []


def run(command: Sequence[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100", "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE
    )
    assert done.returncode == 0, f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def reference() -> str:
    """The page of commands, from the program's own help."""
    parts = [
        "# Commands\n",
        "The output of `autoseg COMMAND --help`. This page is generated: `python tests/test_docs.py`.\n",
        "Exit codes: 0 all well; 2 some cases failed, the others are done; 1 nothing done, wrong words included; "
        "130 stopped by Ctrl-C; 143 stopped by SIGTERM.\n",
    ]
    commands = ("", *COMMANDS)
    helps = type_commands([f"{name} --help" for name in commands], REPOSITORY)
    for command, shown in zip(commands, helps, strict=True):
        parts.append(f"## autoseg {command}".rstrip() + f"\n\n```text\n{shown.strip()}\n```\n")
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------------ the tests


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's tutorial was followed, so that every other page finds what it speaks of."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(REPOSITORY / "example_data", folder / "example_data")
    run_page(README, folder)
    return folder


def test_the_readme_does_what_it_says(tried: Path) -> None:
    masks = sorted(path.name for path in (tried / "masks").glob("*.nii.gz"))
    references = sorted(path.name for path in (tried / "example_data" / "labelsTs").glob("*.nii.gz"))
    assert masks == references
    assert (tried / "masks" / "summary.json").exists()


@pytest.mark.parametrize("page", [page for page in PAGES if page != README and runnable(page)], ids=page_name)
def test_pages_do_what_they_say(page: Path, tried: Path) -> None:
    run_page(page, tried)


def test_what_is_shortened_for_the_tests_is_in_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(long in text for long in SHORTER)


def test_the_reference_is_the_help() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run: python tests/test_docs.py"


def test_the_contents_name_every_page_once_and_end_with_the_notebook() -> None:
    contents = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2].rstrip().splitlines()
    named = sorted(line.rpartition(": ")[2] for line in contents if line.endswith(".md"))
    assert named == sorted(page.relative_to(REPOSITORY / "docs").as_posix() for page in PAGES if page != README)
    assert contents[-1] == "  - Lab notebook: lab-notebook.md"  # a page behind it would belong to no list


def test_options_named_in_the_documentation_exist() -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", REFERENCE.read_text(encoding="utf-8")))
    wrong = []
    spoken = rf"autoseg (?:{'|'.join(COMMANDS)})\b[^`\n]*"
    for page in (*PAGES, *OTHERS):
        for command in re.findall(spoken, page.read_text(encoding="utf-8")):
            wrong += [
                f"{page_name(page)}: {option}"
                for option in re.findall(r"--[a-z][a-z-]+", command)
                if option not in known
            ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page_name(page)}: {link}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^a-z0-9 -]", "", words.lower()).replace(" ", "-") for words in headings], link


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", contents))
    assert listed == {page.relative_to(REPOSITORY / "docs").as_posix() for page in PAGES if page != README}


@pytest.mark.parametrize(
    ("name", "ending"), [("demo", "bin/autoseg demo"), ("test", "bin/pytest -q -n 2 --dist loadfile")]
)
def test_the_two_commands_are_where_the_ci_script_finds_them(name: str, ending: str) -> None:
    found = re.findall(
        rf"^<!-- ci: {name} -->\n```bash\n([^\n]+)\n```$", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(found) == 1
    assert found[0].startswith("python3 -m venv .venv")
    assert found[0].endswith(ending)


def test_the_tested_versions_fit_what_is_installed_together() -> None:
    """Every dependency has its tested version in constraints.txt."""
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    names = re.findall(
        r'^  "([A-Za-z0-9-]+)>=', project.partition("dependencies = [")[2].partition("\n]")[0], re.MULTILINE
    )
    pinned = {
        line.partition("==")[0] for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    }
    assert len(names) > 10
    assert {name.lower() for name in names} <= pinned


if __name__ == "__main__":
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(reference(), encoding="utf-8", newline="\n")
