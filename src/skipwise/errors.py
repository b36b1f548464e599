"""What can go wrong because of what a user gave us.

Every message has three parts: what it is, what it must be, what to do. Anything else that is
raised is a bug of ours.

- `EventError`: the log, a mapping, or a row of it.
- `SettingError`: a setting or an option.
- `DatasetError`: a prepared DATASET.
- `RunError`: a trained RUN or its checkpoint.
- `StorageError`: the disk.
- `StateError`: what a server keeps of viewers and videos.
- `ExperimentError`: an experiment's definition, its exposures, or too little to say anything.
- `EngineError`: the data engine: not installed, not reachable, or asked for more than there is.
"""


class SkipwiseError(Exception):
    """A mistake the user can mend; the message says how."""


class EventError(SkipwiseError):
    """The log cannot be read as events."""


class SettingError(SkipwiseError):
    """A setting is unknown, of the wrong type or out of range.

    Its owner knows the last part of its `name`; `settings.named_within` adds what goes before.
    """

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)
        self.name = name


class DatasetError(SkipwiseError):
    """A prepared dataset is missing, damaged, or cannot answer the question."""


class RunError(SkipwiseError):
    """A trained run is missing, damaged, or does not fit the data."""


class ExperimentError(SkipwiseError):
    """An experiment cannot be run, or cannot be analysed."""


class EngineError(SkipwiseError):
    """The data engine is not there, cannot be reached, or is asked for more than there is."""


class StorageError(SkipwiseError):
    """A file could not be written; nothing half-written was left."""


class StateError(SkipwiseError):
    """The live state is damaged, out of reach, or belongs to something else."""
