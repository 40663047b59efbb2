"""The command line: words in, tables out, exit codes. A new command is a function and its name in `COMMANDS`."""

from __future__ import annotations

from autoseg.cli.app import main, register
from autoseg.cli.auditing import audit
from autoseg.cli.comparing import compare
from autoseg.cli.data import check, plan, prepare
from autoseg.cli.deploying import info, select
from autoseg.cli.diagnosing import diagnose
from autoseg.cli.exchange import export, import_nnunet
from autoseg.cli.learning import train
from autoseg.cli.looking import preview, view
from autoseg.cli.overview import demo, report, status
from autoseg.cli.reproducing import reproduce
from autoseg.cli.scoring import evaluate
from autoseg.cli.segmenting import predict
from autoseg.cli.suggesting import suggest

__all__ = ["COMMANDS", "main"]

#: In the order in which `autoseg --help` lists them.
COMMANDS = (
    check,
    plan,
    prepare,
    preview,
    train,
    select,
    predict,
    evaluate,
    compare,
    audit,
    suggest,
    diagnose,
    info,
    reproduce,
    import_nnunet,
    export,
    report,
    view,
    status,
    demo,
)

for _command in COMMANDS:
    register(_command)
