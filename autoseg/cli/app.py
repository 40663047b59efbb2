"""The program around its commands: its help, the handling of errors, exit codes.

Exit codes: 0 all well; 2 some cases failed, the others are done; 1 nothing done (wrong words on the command line
too); 130 interrupted by Ctrl-C; 143 by SIGTERM.

Nothing heavy is imported at the top of any module here (no torch, numpy, pydantic): each command imports what it
needs, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import functools
import inspect
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import Annotated

import typer

from autoseg import __version__, console
from autoseg.errors import AutosegError, is_out_of_memory
from autoseg.interrupts import Terminated

DONE, NOTHING_DONE, SOME_FAILED, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

app = typer.Typer(
    name="autoseg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a fault of ours shows Python's own traceback
    rich_markup_mode="rich" if sys.stdout.isatty() else None,  # help in a pipe or a log is plain text
)


class _Finished(Exception):
    """A command ended with this exit code; an exception of our own, since typer's 2 means wrong usage."""

    def __init__(self, code: int) -> None:
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command in `arguments` (by default the program's own)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an odd file name must not end the command on an old code page
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _Listener(Terminated))}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell may have it ignored
        before[signal.SIGINT] = signal.signal(signal.SIGINT, _Listener(KeyboardInterrupt))
    try:
        app(args=arguments, prog_name="autoseg")
    except _Finished as finished:
        return finished.code
    except SystemExit as ended:  # typer's own: 0 after --help, 2 after wrong words, 1 after Ctrl-C while it reads them
        return _stopped_by() or (DONE if not ended.code else NOTHING_DONE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return TERMINATED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return DONE


class _Listener:
    """Takes a signal in: raises, and remembers it, since libraries make errors of their own of whatever is raised."""

    def __init__(self, raised: type[BaseException]) -> None:
        self.raised = raised
        self.heard = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.heard = True
        raise self.raised


def _stopped_by() -> int | None:
    """The exit code of the signal that was heard; None where there was none."""
    for number, code in ((signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)):
        listener = signal.getsignal(number)
        if isinstance(listener, _Listener) and listener.heard:
            return code
    return None


def register(function: Callable[..., int]) -> None:
    """Make a function that returns an exit code a command of its name, with the handling of errors around it."""

    @functools.wraps(function)
    def run(*words: object, **options: object) -> None:
        messages = console.messages_console()
        try:
            code = function(*words, **options)
        except AutosegError as error:
            if _stopped_by() is None:  # else what is said would be of the signal
                console.show_error(messages, error)
            code = NOTHING_DONE
        except KeyboardInterrupt:
            console.say(messages, "Interrupted. The same command goes on from what is done.")
            code = INTERRUPTED
        except Terminated:
            code = TERMINATED
        except Exception as error:
            stopped = _stopped_by()
            if stopped is not None:
                raise _Finished(stopped) from error
            told = _of_the_machine(error)
            if told is not None:
                console.show_error(messages, told)
                raise _Finished(NOTHING_DONE) from error
            error.add_note(
                f"This is a fault in autoseg {__version__}, not in your data. Please report it with the lines above."
            )
            raise
        raise _Finished(_stopped_by() or code)

    app.command(name=function.__name__.replace("_", "-"), help=_help_of(function))(run)


def _of_the_machine(error: Exception) -> AutosegError | None:
    """What the machine refused, in words; None where it is a fault of ours."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        what = "no permission to read or write it"
        if error.errno == errno.EROFS:
            what = "nothing can be written there: it may only be read"
        return AutosegError(what, where=error.filename, remedy="Change the permissions, or name another folder.")
    if is_out_of_memory(error):
        return AutosegError(
            f"memory ran out ({error or type(error).__name__})",
            remedy="Close other programs, use fewer --workers, or a machine with more memory.",
        )
    return None


def _help_of(function: Callable[..., object]) -> str:
    """The docstring with each paragraph on one line, so that the terminal's width breaks it; blocks after \\b stay."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(words if words.startswith("\b") else words.replace("\n", " ") for words in paragraphs)


def outcome(failed: Collection[object], done: int) -> int:
    """The exit code where some cases may have failed."""
    if not failed:
        return DONE
    return SOME_FAILED if done else NOTHING_DONE


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autoseg {__version__}")
        raise typer.Exit


def _autoseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Learn to segment images from examples, without settings to choose.

    Give a folder of images with label maps; autoseg measures it, plans a network for it, trains it, and segments
    new images.

    \b
    To see it work:      autoseg demo
    With your own data:  autoseg check DATASET
                         autoseg plan DATASET
                         autoseg train --fold 0
                         autoseg predict IMAGES MASKS

    Research software, not a medical device.
    """


app.callback(help=_help_of(_autoseg))(_autoseg)
