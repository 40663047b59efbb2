"""A training as a page: its curves, what it scored on held-out cases, and samples as it saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from autoseg.progress import duration
from autoseg.records import AccelerationTrial, EpochRecord, Summary, TrainSettings
from autoseg.report.chart_parts import Line
from autoseg.report.charts import line_chart
from autoseg.report.page import (
    NOTHING,
    Block,
    Facts,
    Figure,
    Names,
    Page,
    Pictures,
    Section,
    Table,
    Words,
    number,
    sections,
    table,
    word,
)

#: Labels that get a line of their own; of more, the mean is drawn alone.
_MOST_LINES = 12


def training_page(
    title: str,
    records: Sequence[EpochRecord],
    settings: TrainSettings,
    receipt: Mapping[str, object],
    summary: Summary | None,
    trial: AccelerationTrial | None,
    samples: Pictures | None,
    labels: Sequence[str],
    names: Names,
) -> Page:
    """The page of one run.

    Args:
        title: plan, configuration and fold.
        records: the epochs so far.
        settings: of the run.
        receipt: what the run was made with; empty while it is under way.
        summary: scores of the held-out cases, once there are any.
        trial: the ways to compute that were tried.
        samples: patches as cropped and augmented.
        labels: in the order in which they have their colours.
        names: how to call the cases.
    """
    return Page(
        kind="training",
        title=names.words(title, "Training"),
        subtitle=_subtitle(records, receipt),
        sections=sections(
            Section("At a glance", _glance(records, receipt, summary)),
            Section("Loss and Dice", _curves(records, labels)),
            _full_volume(summary),
            Section("Learning rate and pace", _pace(records)),
            Section(
                "What the network sees",
                () if samples is None else (samples,),
                "Patches as they were cropped, and augmented.",
            ),
            Section("How it was made", _made(settings, receipt, trial, names)),
        ),
    )


def _subtitle(records: Sequence[EpochRecord], receipt: Mapping[str, object]) -> str:
    state = "Finished" if receipt else "Under way"
    early = str(receipt.get("ended_early") or "")
    device = f", on {receipt['device']}" if "device" in receipt else ""
    return f"{state}{', ' + early if early else ''}: {len(records)} epochs{device}."


def _glance(
    records: Sequence[EpochRecord], receipt: Mapping[str, object], summary: Summary | None
) -> tuple[Block, ...]:
    if not records:
        return (Words("No epoch is finished yet.", "doubt"),)
    last = records[-1]
    facts = [
        ("epochs", str(last.epoch + 1)),
        ("steps", str(last.step)),
        ("training time", duration(last.seconds)),
        ("training loss", f"{last.train_loss:.4f}"),
        ("patch Dice, a proxy", NOTHING if last.patch_dice is None else f"{last.patch_dice:.3f}"),
        ("waiting for data", f"{last.data_wait:.1%}"),
    ]
    if summary is not None and summary.mean_dice is not None:
        facts.insert(0, ("mean Dice of held-out cases", f"{summary.mean_dice:.3f}"))
    skipped = receipt.get("skipped_steps")
    odd = () if not skipped else (Words(f"{skipped} steps had a loss that was not finite, and were skipped.", "doubt"),)
    return (Facts(tuple(facts)), *odd)


def _curves(records: Sequence[EpochRecord], labels: Sequence[str]) -> tuple[Block, ...]:
    if not records:
        return ()
    epochs = [record.epoch + 1 for record in records]
    blocks: list[Block] = [
        Figure(line_chart([Line("training loss", epochs, [record.train_loss for record in records])], "epoch", "loss"))
    ]
    mean = Line("mean", epochs, [record.patch_dice for record in records])
    found = [name for name in labels if name in records[-1].patch_dice_per_label]
    lines: list[Line] = []
    if 1 < len(found) <= _MOST_LINES:
        lines = [Line(name, epochs, [record.patch_dice_per_label.get(name) for record in records]) for name in found]
    lines.append(mean)
    if any(value is not None for line in lines for value in line.y):
        blocks.append(
            Figure(
                line_chart(lines, "epoch", "patch Dice", y=(0.0, 1.0)),
                "Online Dice over patches of held-out cases: a proxy, which says whether training goes well. The Dice "
                "of whole volumes is measured at the end.",
            )
        )
    return tuple(blocks)


def _full_volume(summary: Summary | None) -> Section | None:
    if summary is None:
        return None
    rows = [
        (word(name), number(entry.dice), number(entry.nsd), number(entry.hd95_mm, 2), number(entry.cases, 0))
        for name, entry in summary.labels.items()
    ]
    lead = "Held-out cases, which training never saw. The page of results beside this one shows every case."
    return Section("Full-volume Dice", (table(("label", "Dice", "NSD", "HD95 (mm)", "cases"), rows),), lead)


def _pace(records: Sequence[EpochRecord]) -> tuple[Block, ...]:
    if not records:
        return ()
    epochs = [record.epoch + 1 for record in records]
    ends = [0.0, *(record.seconds for record in records)]
    took = [max(after - before, 0.0) for before, after in pairwise(ends)]
    waited = [seconds * record.data_wait for seconds, record in zip(took, records, strict=True)]
    return (
        Figure(
            line_chart(
                [Line("rate", epochs, [record.learning_rate for record in records])],
                "epoch",
                "learning rate",
                height=200,
            )
        ),
        Figure(
            line_chart(
                [Line("whole epoch", epochs, took), Line("of that, waiting for data", epochs, waited)],
                "epoch",
                "seconds",
                y=(0.0, max(took) * 1.1 or 1.0),
                height=200,
            )
        ),
    )


def _made(
    settings: TrainSettings, receipt: Mapping[str, object], trial: AccelerationTrial | None, names: Names
) -> tuple[Block, ...]:
    blocks: list[Block] = []
    stages = receipt.get("seconds")
    if isinstance(stages, Mapping):
        blocks.append(Facts(tuple((str(stage), duration(float(seconds))) for stage, seconds in stages.items())))
    if trial is not None:
        rows = [
            (word(name), number(seconds, 3), word("chosen" if name == trial.chosen else "", "good"))
            for name, seconds in trial.seconds_per_step.items()
        ]
        blocks.append(table(("way to compute", "seconds per step", ""), rows, "Ways to compute that were tried."))
    plain = {
        name: value for name, value in receipt.items() if not isinstance(value, Mapping) and value not in ("", None)
    }
    versions = receipt.get("versions")
    plain |= {f"version of {name}": value for name, value in versions.items()} if isinstance(versions, Mapping) else {}
    if plain:
        blocks.append(_values(plain, "Receipt"))
    hidden = {"plugins", "initial"} if names.anonymous else set()
    blocks.append(_values(settings.model_dump(mode="json", exclude=hidden), "Settings"))
    return tuple(blocks)


def _values(values: Mapping[str, object], caption: str) -> Table:
    rows = [(word(name.replace("_", " ")), word(NOTHING if value is None else value)) for name, value in values.items()]
    return table(("name", "value"), rows, caption)
