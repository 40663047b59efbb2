"""Pictures of reports for the documentation, as Chromium shows them.

python docs/images/take.py autoseg-demo
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parent

#: Picture -> page below the folder of `autoseg demo`, and the part of it that is shown: first and last row of pixels.
PICTURES = {
    "report-dataset": ("work/report/dataset.html", 0, 900),
    "report-plan": ("work/report/plan.html", 1750, 2700),
    "report-training": ("work/runs/default/3d_fullres/fold_0/report.html", 0, 900),
    "report-results": ("work/runs/default/3d_fullres/fold_0/results.html", 1740, 2760),
}

WIDTH = 1100


def taken(page: Path, height: int) -> Image.Image:
    """The upper part of a page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", f"--user-data-dir={folder}/user"]
        subprocess.run(
            [browser, *options, f"--window-size={WIDTH},{height}", f"--screenshot={shot}", page.resolve().as_uri()],
            check=True,
            capture_output=True,
        )
        return Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder that `autoseg demo` has written to")
    options = parser.parse_args()
    for name, (page, first, last) in PICTURES.items():
        picture = taken(options.demo / page, last).crop((0, first, WIDTH, last))
        few = picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(IMAGES / f"{name}.png", optimize=True)
        print(f"{name}.png  {(IMAGES / f'{name}.png').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
