"""The error tree: what a user's mistake becomes.

    AutosegError                 says what, where and what to do
    ├── DatasetError             the dataset folder or its files
    │   └── ReadError            one file cannot be read
    ├── RecordError              one of our JSON files is broken, edited or of a newer version
    ├── PlanError                a plan that cannot be made or kept
    ├── WorkspaceError           the work folder does not fit what was asked
    ├── TrainingError            training cannot begin or go on
    ├── ModelError               a model file that cannot be used
    ├── PredictionError          a case that cannot be predicted, or masks in the way
    ├── DiskFullError            no room for a file; nothing that existed was touched
    ├── WorkerDied               a worker process was killed from outside
    └── UsageError               words on the command line that make no sense together

Everything else that escapes is a fault of ours and shows a traceback.
"""

from __future__ import annotations


class AutosegError(Exception):
    """A mistake that its maker can mend: what went wrong, where, and what to do."""

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.remedy = remedy
        super().__init__(what, self.where, remedy)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return (
            text
            if self.remedy is None
            else f"{text} {self.remedy}"
            if text.endswith((".", "!"))
            else f"{text}. {self.remedy}"
        )

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments would be lost when an error travels from a worker process
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


def _rebuild(kind: type[AutosegError], what: str, where: str | None, remedy: str | None) -> AutosegError:
    return kind(what, where=where, remedy=remedy)


class DatasetError(AutosegError):
    """The dataset folder or the files in it."""


class ReadError(DatasetError):
    """One file cannot be read."""


class RecordError(AutosegError):
    """One of our own JSON files is broken, edited into something impossible, or of another version."""


class PlanError(AutosegError):
    """A plan that cannot be made or kept."""


class WorkspaceError(AutosegError):
    """The work folder does not fit what was asked."""


class TrainingError(AutosegError):
    """Training cannot begin or go on."""


class ModelError(AutosegError):
    """A model file that cannot be used."""


class PredictionError(AutosegError):
    """A case that cannot be predicted, or files in the way of its mask."""


class DiskFullError(AutosegError):
    """No room for a file; nothing that existed before was touched."""


class WorkerDied(AutosegError):
    """A worker process was killed from outside (often for lack of memory)."""


class UsageError(AutosegError):
    """Words on the command line that make no sense together."""


#: What numeric libraries say where they could get no memory, as plain RuntimeErrors.
_NO_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory", "bad_alloc"),
    "could not create a primitive",  # oneDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a device; torch has a type for it on CUDA, and words elsewhere."""
    if isinstance(error, MemoryError) or "OutOfMemoryError" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)
