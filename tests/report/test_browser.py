"""Pages in a real browser: they open without an error, charts are drawn, tables sort, dark is dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_builders import all_pages

from autoseg.report.page import render

KINDS = ("plan", "dataset", "training", "results", "comparison", "masks", "audit", "suggest", "diagnosis")

#: Added to a copy of a page: presses the first column title of every table twice, and tells what is there.
PROBE = """
(() => {
  const errors = [];
  addEventListener("error", (event) => errors.push(String(event.message)));
  addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective));
  addEventListener("load", () => {
    const drawn = [...document.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect().height);
    const broken = [...document.images].filter((image) => !image.naturalWidth).length;
    const tables = [...document.querySelectorAll("table")].filter((table) => table.querySelector("th button"));
    const key = (cell) => cell.dataset.order ?? cell.textContent;
    const order = (table) => [...table.tBodies[0].rows].map((row) => key(row.cells[0]));
    const sorted = tables.map((table) => {
      const button = table.querySelector("th button"), found = {};
      button.focus();
      found.focused = document.activeElement === button;
      button.click();
      found.up = order(table); found.upAria = button.parentNode.getAttribute("aria-sort");
      button.click();
      found.down = order(table); found.downAria = button.parentNode.getAttribute("aria-sort");
      return found;
    });
    const told = document.createElement("pre");
    told.id = "told";
    told.textContent = JSON.stringify({ errors, drawn, broken, sorted });
    document.body.append(told);
  });
})();
"""


@cache
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium on this machine")
    return found


def chromium(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", *words,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_draws_and_sorts(kind: str, tmp_path: Path) -> None:
    html = render(all_pages()[kind])
    # a script of the test needs the page's leave
    allowed = html.replace("script-src 'sha256", "script-src 'nonce-test' 'sha256")
    page = tmp_path / "page.html"
    page.write_text(allowed.replace("<body>", f'<body><script nonce="test">{PROBE}</script>'), encoding="utf-8")
    done = chromium(tmp_path, "--dump-dom", page.as_uri())
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    match = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match is not None
    told = json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert told["errors"] == []
    assert told["broken"] == 0
    assert len(told["drawn"]) == html.count("<svg")
    assert all(height > 40 for height in told["drawn"])
    assert told["sorted"]
    for found in told["sorted"]:
        assert found["focused"]
        assert (found["upAria"], found["downAria"]) == ("ascending", "descending")
        assert sorted(found["up"]) == sorted(found["down"])
        assert found["up"][0] == found["down"][-1] or len(set(found["up"])) < len(found["up"])


def test_a_page_is_dark_where_the_reader_wants_it(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render(all_pages()["training"]), encoding="utf-8")
    corners = {}
    for scheme, word in {"light": (), "dark": ("--blink-settings=preferredColorScheme=0",)}.items():
        picture = tmp_path / f"{scheme}.png"
        chromium(tmp_path, *word, "--window-size=1000,900", f"--screenshot={picture}", page.as_uri())
        with Image.open(picture) as opened:
            pixels = np.asarray(opened.convert("L"))
        corners[scheme] = int(pixels[5, 5])
        assert pixels.std() > 3
    assert corners["light"] > 240
    assert corners["dark"] < 40
