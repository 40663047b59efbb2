"""Files that nobody would write: our own errors, never a crash, a hang or memory without bound.

The default run tries a few hundred of each kind, and all that ever failed (`found/`); `-m slow` tries thousands.
`run_fuzzer.py` searches with atheris, guided by what the code does.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fuzz_targets import TARGETS, Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOUND = Path(__file__).parent / "found"

#: Bytes by which the process may grow over thousands of files.
GROWTH = 200e6

FEW = 60
MANY = pytest.param(1500, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
TIMES = [pytest.param(FEW, id="few"), MANY]

#: What headers are filled with by those who mean it.
TELLING = st.sampled_from(
    [b"\x00", b"\xff", b"\xff\xff", b"\x00\x80", b"\xff\x7f", b"\xff\xff\xff\x7f", b"\x00\x00\x80\x7f",
     b"\x00\x00\xc0\xff", b"\xff" * 8, b"9" * 12, b"-1", b"nan", b"1e999", b"\n", b"../", b" 0 ", b"%s"]
)  # fmt: skip
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, -1, 1, 2**31, 2**63, 10**6, 10**400])
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["../../etc/passwd", "/etc/passwd", "a\x00b", "C:\\x", "0", "1", "ignore", "background"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def changed_bytes(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, max(0, min(len(content), 400) - 1)) | st.integers(0, max(0, len(content) - 1)))
        new = draw(TELLING | st.binary(min_size=1, max_size=8))
        if draw(st.booleans()):
            content[place : place + len(new)] = new
        else:
            content[place:place] = new
    if draw(st.integers(0, 9)) == 0:
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each place of a JSON value, as keys from the root."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places_in(inner, (*path, key))


@st.composite
def changed_json(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    record = copy.deepcopy(json.loads(draw(st.sampled_from(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([place for place in places_in(record) if place]))
        holder = record
        for key in way:
            holder = holder[key]
        if draw(st.integers(0, 4)) == 0:
            del holder[last]
        else:
            holder[last] = draw(VALUES)
        if not any(place for place in places_in(record)):
            break
    return json.dumps(record, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("name", TARGETS)
def test_no_file_makes_anything_but_an_error_of_ours(name: str, times: int, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for seed in seeds:
        assert target.feed(tmp_path, seed), "a sound file is refused"
    before = psutil.Process().memory_info().rss

    # a few are the same each time, so that the default run does not fail by chance; many are new ones
    @settings(
        max_examples=times,
        deadline=20_000,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        derandomize=times == FEW,
    )
    @given(content=changed_json(seeds) if target.is_json else changed_bytes(seeds))
    def feed(content: bytes) -> None:
        target.feed(tmp_path, content)

    feed()
    assert psutil.Process().memory_info().rss - before < GROWTH


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_failed_once(path: Path, tmp_path: Path) -> None:
    target: Target = TARGETS[path.parent.name]
    target.feed(tmp_path, path.read_bytes())
