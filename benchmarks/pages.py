"""Size of the pages that commands leave, the time that a browser takes to load them, and what its console says.

python benchmarks/pages.py FOLDER [FOLDER...]

Opens every .html file below the folders in Chromium, without a window. The time is from the navigation to the page's
load event, all pictures decoded, as the browser itself measures it; starting the browser does not count.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

#: Added to a copy of a page: tells when it was loaded.
PROBE = """
addEventListener("load", () => setTimeout(() => {
  const told = document.createElement("pre"), [entry] = performance.getEntriesByType("navigation");
  told.id = "told";
  told.textContent = Math.round(entry.loadEventEnd);
  document.body.append(told);
}));
"""


def loaded(page: Path, folder: Path) -> tuple[int | None, list[str]]:
    """Milliseconds until the page was loaded, and lines of the console."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is not installed")
    html = page.read_text(encoding="utf-8").replace("script-src 'sha256", "script-src 'nonce-told' 'sha256")
    copy = folder / "page.html"
    copy.write_text(html.replace("<body>", f'<body><script nonce="told">{PROBE}</script>'), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command = [browser, *options, f"--user-data-dir={folder / 'user'}", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    match = re.search(r'<pre id="told">(\d+)</pre>', done.stdout)
    return int(match[1]) if match else None, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+")
    options = parser.parse_args()
    pages = [page for folder in options.folder for page in sorted(folder.rglob("*.html"))]
    with tempfile.TemporaryDirectory() as folder:
        for page in pages:
            milliseconds, said = loaded(page, Path(folder))
            told = "not told" if milliseconds is None else f"{milliseconds} ms"
            print(f"{page.stat().st_size / 1000:9.0f} kB  {told:>9}  {len(said)} console lines  {page}")


if __name__ == "__main__":
    main()
