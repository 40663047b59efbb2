"""Search for files that crash a reader, guided by what the code does with them (atheris, libFuzzer).

    python tests/fuzz/run_fuzzer.py nifti --inputs 20000

needs `pip install atheris`. What fails is left in `found/TARGET/`, where the tests try it from then on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["autoseg"]):
    from fuzz_targets import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    target = TARGETS[given.target]
    found = Path(__file__).parent / "found" / given.target
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place, corpus = Path(folder) / "file", Path(folder) / "corpus"
        place.mkdir()
        corpus.mkdir()
        for number, content in enumerate(target.seeds()):
            (corpus / str(number)).write_bytes(content)

        def feed(content: bytes) -> None:
            target.feed(place, content)

        options = {"runs": given.inputs, "seed": given.seed, "timeout": 20, "rss_limit_mb": 3000, "max_len": 20_000}
        words = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *words, f"-artifact_prefix={found}/", "-print_final_stats=1", str(corpus)], feed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
