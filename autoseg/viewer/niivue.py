"""Where NiiVue's own script is found: it is another's program, and is not part of this one."""

from __future__ import annotations

import tarfile
from pathlib import Path

from autoseg.errors import UsageError

#: The script inside the npm package, and in the archive that `npm pack` makes of it.
IN_PACKAGE = Path("dist") / "niivue.umd.js"
IN_ARCHIVE = "package/dist/niivue.umd.js"

#: Where npm installs the package, from the folder in which it was called.
INSTALLED = Path("node_modules") / "@niivue" / "niivue"

#: The script defines this name.
_DEFINES = b"niivue"

_MOST_BYTES = 64_000_000

_REMEDY = (
    "Get NiiVue's package once: `npm pack @niivue/niivue` in this folder, and name the .tgz file that it writes with "
    "--niivue; or `npm install @niivue/niivue` here."
)


def niivue_script(given: Path | None, start: Path) -> bytes:
    """NiiVue's script for browsers.

    Args:
        given: the script, the package's folder, or the package's archive (.tgz); None looks for an installed package.
        start: the folder from which an installed package is sought, in it and the folders above.

    Raises UsageError, with the way to get it, where there is none.
    """
    if given is None:
        given = next((folder / INSTALLED for folder in (start, *start.parents) if (folder / INSTALLED).is_dir()), None)
        if given is None:
            raise UsageError("NiiVue, which shows the volumes, is not there", where=start, remedy=_REMEDY)
    content = _from_archive(given) if given.suffix == ".tgz" else _from_file(given)
    if _DEFINES not in content:
        raise UsageError("is not NiiVue's script", where=given, remedy=_REMEDY)
    return content


def _from_file(given: Path) -> bytes:
    path = given / IN_PACKAGE if given.is_dir() else given
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror or error})", where=path, remedy=_REMEDY) from error


def _from_archive(given: Path) -> bytes:
    """The one file of the archive, in memory: nothing is unpacked to disk."""
    try:
        with tarfile.open(given) as archive:
            member = archive.extractfile(IN_ARCHIVE)
            content = b"" if member is None else member.read(_MOST_BYTES)
    except (OSError, tarfile.TarError, KeyError) as error:
        raise UsageError(f"is not an archive of NiiVue's package ({error})", where=given, remedy=_REMEDY) from error
    return content
