"""What serving must do as preparation did: labels, counters, days, sessions.

    a RUN's description, or a DATASET's  ->  Rules.of  ->  Rules

- Taken from the run alone, so that a model is served by the rules it was trained with.

Reads `labels` and `features`; is read by every part of serving that keeps state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skipwise.features.counter_names import COUNTABLE, CounterConfig, sum_names
from skipwise.labels.watch import LABELS, LabelConfig
from skipwise.settings import apply_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How events become state."""

    labels: LabelConfig
    counters: CounterConfig
    """Only what the log could answer is counted."""
    counter_names: tuple[str, ...]
    outcome_delay_ms: int
    session_gap_s: float
    time_zone: str

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Rules":
        """Read them off `run.json`'s `dataset`, or `dataset.json`: both say the same.

        Raises:
            SettingError: A setting in it is none.
        """
        settings, names = facts["settings"], set(facts["counter_names"])
        counted = tuple(name for name in COUNTABLE if f"video.{name}" in names)
        return cls(
            labels=apply_settings(LabelConfig(), settings["labels"]),
            counters=CounterConfig(
                half_life_days=settings["counters"]["half_life_days"], counted=counted
            ),
            counter_names=tuple(facts["counter_names"]),
            outcome_delay_ms=round(settings["outcome_delay_s"] * 1000),
            session_gap_s=float(settings["session_gap_s"]),
            time_zone=str(facts["time_zone"]),
        )

    @property
    def num_sums(self) -> int:
        """S: how many sums are held per key."""
        return len(sum_names(self.counters.counted))

    @property
    def counted_places(self) -> tuple[int, ...]:
        """Places in `LABELS` of what is counted, in the order of the sums."""
        return tuple(LABELS.index(name) for name in COUNTABLE if name in self.counters.counted)
