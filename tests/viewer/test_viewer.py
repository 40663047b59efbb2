"""The viewer: what its server gives to whom, where NiiVue is found, and, where it is there, that it shows volumes."""

from __future__ import annotations

import http.client
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nibabel
import numpy as np
import pytest
from PIL import Image

from autoseg.dataset.nifti import nifti_bytes, read_image
from autoseg.errors import ReadError, UsageError
from autoseg.pipeline.view import view
from autoseg.progress import SilentProgress
from autoseg.viewer.files import colour_table
from autoseg.viewer.niivue import IN_ARCHIVE, INSTALLED, niivue_script
from autoseg.viewer.server import FileServer

SCRIPT = b"var niivue = {};"


@contextmanager
def serving(server: FileServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join()
        server.close()


def get(
    address: str, name: str = "", host: str | None = None, path: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.putrequest("GET", path if path is not None else parts.path + name, skip_host=host is not None)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read(), dict(answer.getheaders())
    connection.close()
    return found


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "niivue.umd.js"
    path.write_bytes(SCRIPT)
    return path


@pytest.fixture
def volumes(example_data: Path) -> tuple[Path, Path]:
    return example_data / "imagesTr" / "example_01_0000.nii.gz", example_data / "labelsTr" / "example_01.nii.gz"


def test_the_server_gives_the_page_and_the_volumes_as_they_are(
    script: Path, volumes: tuple[Path, Path], tmp_path: Path
) -> None:
    image, mask = volumes
    with serving(view(image, [mask], niivue=script, progress=SilentProgress())) as address:
        status, page, headers = get(address)
        assert status == 200
        assert b"<canvas" in page
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert get(address, "niivue.js")[1] == SCRIPT
        listed = json.loads(get(address, "volumes.json")[1])
        assert [entry["title"] for entry in listed] == ["example_01_0000", "example_01"]
        assert listed[1]["labels"]["I"] == [0, 1, 2]
        given = tmp_path / "given.nii"
        given.write_bytes(get(address, listed[0]["file"])[1])
    shown, original = nibabel.load(given), nibabel.load(image)
    np.testing.assert_array_equal(np.asarray(shown.dataobj), np.asarray(original.dataobj).astype(np.float32))
    np.testing.assert_allclose(shown.affine, original.affine, atol=1e-4)


def test_the_viewer_shows_what_our_pages_show(script: Path, volumes: tuple[Path, Path], tmp_path: Path) -> None:
    with serving(view(volumes[0], [], niivue=script, progress=SilentProgress())) as address:
        page = get(address, "page.js")[1].decode()
        assert json.loads(get(address, "volumes.json")[1])[0]["sides"] is True
    assert "isRadiologicalConvention: true" in page
    assert "sagittalNoseLeft: true" in page
    assert "isOrientationTextVisible: volumes[0].sides" in page
    for name in ("image", "mask"):
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / f"{name}.png")
    with serving(
        view(tmp_path / "image.png", [tmp_path / "mask.png"], niivue=script, progress=SilentProgress())
    ) as address:
        listed = json.loads(get(address, "volumes.json")[1])
        for entry in listed:
            assert entry["sides"] is False
            (tmp_path / entry["file"]).write_bytes(get(address, entry["file"])[1])
            # with right on the left and anterior on top: the first column on the left, the first row on top
            np.testing.assert_array_equal(nibabel.load(tmp_path / entry["file"]).affine, np.diag([-1, -1, 1, 1]))


def test_the_server_is_deaf_to_all_others(script: Path, volumes: tuple[Path, Path]) -> None:
    with serving(view(volumes[0], [], niivue=script, progress=SilentProgress())) as address:
        parts = urlsplit(address)
        assert parts.hostname == "127.0.0.1"
        assert get(address)[0] == 200
        for path in (
            "/",
            "/volumes.json",
            "/wrong/volumes.json",
            f"{parts.path}../../etc/passwd",
            f"{parts.path}volume-9.nii",
        ):
            assert get(address, path=path)[0] == 404, path
        assert get(address, host=f"evil.example:{parts.port}")[0] == 404
        assert get(address, host="")[0] == 404


def test_two_viewers_have_different_secrets(script: Path, volumes: tuple[Path, Path]) -> None:
    servers = [view(volumes[0], [], niivue=script, progress=SilentProgress()) for _ in range(2)]
    paths = {urlsplit(server.address).path for server in servers}
    for server in servers:
        server.close()
    assert len(paths) == 2
    assert all(len(path) > 20 for path in paths)


def test_niivue_is_found_where_npm_puts_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="npm pack @niivue/niivue"):
        niivue_script(None, tmp_path)
    dist = tmp_path / INSTALLED / "dist"
    dist.mkdir(parents=True)
    (dist / "niivue.umd.js").write_bytes(SCRIPT)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert niivue_script(None, below) == SCRIPT
    assert niivue_script(dist.parent, tmp_path) == SCRIPT
    archive = tmp_path / "niivue-niivue-1.tgz"
    with tarfile.open(archive, "w:gz") as file:
        entry = tarfile.TarInfo(IN_ARCHIVE)
        entry.size = len(SCRIPT)
        file.addfile(entry, io.BytesIO(SCRIPT))
    assert niivue_script(archive, tmp_path) == SCRIPT


@pytest.mark.parametrize("content", [b"not an archive", b""])
def test_what_is_not_niivue_is_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("other.js", "other.tgz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError):
            niivue_script(tmp_path / name, tmp_path)


def test_a_damaged_image_and_a_mask_of_fractions_are_named(
    script: Path, volumes: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"\x1f\x8bnothing")
    with pytest.raises(ReadError, match=re.escape(str(broken))):
        view(broken, [], niivue=script, progress=SilentProgress())
    fractions = tmp_path / "fractions.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), np.eye(4)), fractions)
    with pytest.raises(UsageError, match="no mask"):
        view(volumes[0], [fractions], niivue=script, progress=SilentProgress())


def test_bytes_of_a_volume_are_read_back_as_they_were(volumes: tuple[Path, Path], tmp_path: Path) -> None:
    volume = read_image(volumes[0])
    path = tmp_path / "again.nii"
    path.write_bytes(nifti_bytes(volume.image[0], volume.geometry))
    again = read_image(path)
    np.testing.assert_array_equal(again.image[0], volume.image[0])
    np.testing.assert_allclose(again.geometry.affine, volume.geometry.affine, atol=1e-5)


def test_the_background_is_transparent() -> None:
    table = colour_table({2: "liver", 5: "kidney"})
    assert table["I"] == [0, 2, 5]
    assert table["A"] == [0, 255, 255]
    assert table["labels"] == ["background", "liver", "kidney"]


def test_niivue_shows_the_volumes_in_a_browser(volumes: tuple[Path, Path], tmp_path: Path, repository: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium on this machine")
    try:
        niivue_script(None, repository)
    except UsageError:
        pytest.skip("NiiVue is not installed (npm install @niivue/niivue in a folder above)")
    image, mask = volumes
    given = next(folder / INSTALLED for folder in (repository, *repository.parents) if (folder / INSTALLED).is_dir())
    with serving(view(image, [mask], niivue=given, progress=SilentProgress())) as address:
        command = [
            browser, "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000",
            "--dump-dom", address,
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-loaded="2"' in shown
    assert "cannot be shown" not in shown
