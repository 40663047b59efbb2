"""Pictures of what training does, and single volumes to look at."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from autoseg import console
from autoseg.cli.app import DONE
from autoseg.options import DEFAULT_WORK, DatasetFolder, PlanName, Use, Work, parse_settings


def preview(
    dataset: DatasetFolder,
    work: Work = DEFAULT_WORK,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for the sheets (default: WORK/preview).")
    ] = None,
    plan: PlanName = "default",
    configuration: Annotated[
        str | None,
        typer.Option(
            "--configuration", metavar="NAME", help="2d or 3d_fullres (default: 3d_fullres where planned, else 2d)."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Other samples, other augmentation.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Another training setting: augmentation=elastic, channel_dropout=0.3."
        ),
    ] = None,
    use: Use = None,
) -> int:
    """Draw sheets of training patches, as cropped and augmented.

    One PNG per channel: a row per sample, the patch as it was cropped and what augmentation makes of it, with the
    outlines of the labels. Without a plan in the work folder one is made for the preview and not kept.

    Example: autoseg preview my-dataset --work my-work
    """
    overrides = parse_settings(setting or ())
    from autoseg.pipeline.preview import preview as run
    from autoseg.workspace import Workspace

    report = run(
        dataset,
        Workspace(work),
        out=out,
        plan=plan,
        configuration=configuration,
        seed=seed,
        overrides=overrides,
        use=tuple(use or ()),
        progress=console.RichProgress(),
    )
    results = console.results_console()
    for sheet in report.sheets:
        console.say(results, f"Written: {sheet}")
    return DONE


def view(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image, in any format that is read.")],
    masks: Annotated[list[Path] | None, typer.Argument(metavar="[MASK]...", help="Masks to lay over it.")] = None,
    niivue: Annotated[
        Path | None,
        typer.Option(
            "--niivue",
            metavar="PATH",
            help="NiiVue's npm package: its .tgz file or its folder (default: where npm installed it).",
        ),
    ] = None,
    work: Work = DEFAULT_WORK,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> int:
    """Look at an image with masks over it, in the browser.

    NiiVue shows it in three planes and in 3D. It is not part of autoseg: `npm pack @niivue/niivue` gets its package
    once. The page is served to this machine only, under a secret address, until Ctrl-C.

    Example: autoseg view image.nii.gz mask.nii.gz --niivue niivue-niivue-0.69.0.tgz
    """
    from autoseg.pipeline.view import view as run
    from autoseg.workspace import Workspace

    server = run(image, tuple(masks or ()), niivue=niivue, work=Workspace(work), progress=console.RichProgress())
    console.say(console.results_console(), f"Open {server.address} (Ctrl-C ends it)")
    if show:
        webbrowser.open(server.address)
    try:
        server.serve()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    return DONE
