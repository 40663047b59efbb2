"""Seconds and memory to resample one large image, by autoseg and by skimage as nnU-Net does, and how far both agree.

    python benchmarks/resample.py [--shape 400 512 512] [--repeats 3]

Cubic B-splines from 1.0 x 0.8 x 0.8 mm to 1.5 mm (nnU-Net's order 3 for images). Both run on one core, each in a
process of its own; memory is the largest Pss while it runs, the image itself included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import measured

MAKE = """
import sys
import numpy as np
from scipy.ndimage import gaussian_filter
shape = [int(size) for size in sys.argv[2:5]]
image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
np.save(sys.argv[1], gaussian_filter(image, 1) * 500)
"""

OURS = """
import json, sys, time
import numpy as np
from autoseg.arrays.resample import resample_image, resampled_shape
image, old, new = np.load(sys.argv[1])[None], (1.0, 0.8, 0.8), (1.5, 1.5, 1.5)
shape = resampled_shape(image.shape[1:], old, new)
began = time.perf_counter()
found = resample_image(image, shape, old, new)[0]
seconds = time.perf_counter() - began
"""

SKIMAGE = """
import json, sys, time
import numpy as np
from skimage.transform import resize
from autoseg.arrays.resample import resampled_shape
image = np.load(sys.argv[1])
shape = resampled_shape(image.shape, (1.0, 0.8, 0.8), (1.5, 1.5, 1.5))
began = time.perf_counter()
# nnU-Net hands over float64 and takes the result in the type of the data
found = resize(image.astype(float), shape, 3, mode="edge", anti_aliasing=False).astype(image.dtype)
seconds = time.perf_counter() - began
"""

END = """
np.save(sys.argv[2], found)
open(sys.argv[2] + ".json", "w").write(json.dumps(seconds))
"""


def run(program: str, image: Path, result: Path, repeats: int) -> tuple[float, int]:
    """Least seconds of the resampling alone, and, from a further run, the largest memory of the process."""
    script = result.with_suffix(".py")
    script.write_text(program + END)
    command = [sys.executable, str(script), str(image), str(result)]
    seconds = []
    for _ in range(repeats):
        measured(command, sample_memory=False)
        seconds.append(float(json.loads(Path(f"{result}.json").read_text())))
    return min(seconds), measured(command, sample_memory=True).peak_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(400, 512, 512))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        image = folder / "image.npy"
        measured([sys.executable, "-c", MAKE, str(image), *map(str, options.shape)], sample_memory=False)
        size = image.stat().st_size
        print(f"{'x'.join(map(str, options.shape))} voxels, {size / 1e9:.2f} GB", flush=True)
        for name, program, result in (("autoseg", OURS, "ours.npy"), ("skimage", SKIMAGE, "theirs.npy")):
            seconds, peak = run(program, image, folder / result, options.repeats)
            print(f"{name}  {seconds:7.2f} s  {peak / 1e9:6.2f} GB", flush=True)
        ours, theirs = np.load(folder / "ours.npy"), np.load(folder / "theirs.npy")
        spread = float(theirs.std())
        print(f"largest difference {np.abs(ours - theirs).max() / spread:.1e} of the image's standard deviation")


if __name__ == "__main__":
    main()
