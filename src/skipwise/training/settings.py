"""Every setting of a training run, and the presets they start from.

    preset name  ->  preset  ->  TrainSettings  ->  apply_settings (file, key=value)  ->  a run

- One dial, `size`, derives the rest.

Is read by `fit` and the command line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from skipwise.model.encoder_settings import EncoderSettings
from skipwise.model.inputs import InputSettings
from skipwise.model.losses import LossSettings
from skipwise.model.objectives import ObjectiveSettings
from skipwise.model.recommender import ModelSettings
from skipwise.model.retrieval import RetrievalSettings
from skipwise.settings import check_choice, check_setting


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerSettings:
    """AdamW (arXiv 1711.05101), ids apart from the rest."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    id_learning_rate: float = 5e-4
    """For the tables of videos, authors, topics and declared extras."""
    id_weight_decay: float = 2.0
    """Hard: what is seen a few times must not be learnt by heart."""
    sparse_from_rows: int = 1_000_000
    """A table of ids with at least so many rows learns by row-wise Adagrad on the rows a batch
    touches, without decay and running mean: its size costs memory then, not time."""
    table_learning_rate: float = 0.02
    """Of those tables."""
    warmup_steps: int = 50
    gradient_norm_at_most: float = 1.0
    average: float = 0.99
    """Memory of the running mean of weights that is validated and kept; 0 = the last weights."""

    def __post_init__(self) -> None:
        check_setting("optimizer.learning_rate", self.learning_rate, above=0, at_most=1)
        check_setting("optimizer.id_learning_rate", self.id_learning_rate, above=0, at_most=1)
        check_setting("optimizer.weight_decay", self.weight_decay, at_least=0, at_most=100)
        check_setting("optimizer.id_weight_decay", self.id_weight_decay, at_least=0, at_most=100)
        check_setting("optimizer.sparse_from_rows", self.sparse_from_rows, at_least=1)
        check_setting("optimizer.table_learning_rate", self.table_learning_rate, above=0, at_most=1)
        check_setting("optimizer.warmup_steps", self.warmup_steps, at_least=0)
        check_setting("optimizer.gradient_norm_at_most", self.gradient_norm_at_most, above=0)
        check_setting("optimizer.average", self.average, at_least=0, below=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """A whole training run."""

    seed: int = 0
    threads: int = 1
    """CPU threads; 0 = all. On 1 the same seed gives the same weights bit by bit, and a network of
    these sizes gains little from more and loses much where other work runs beside it."""
    precision: str = "auto"
    """fp32, bf16 in all products, or auto, which times both before the first step. The same
    seed gives the same weights only in the same precision: set it where that matters."""
    device: str = "auto"
    """Where it is trained: cpu, cuda, or auto, which is cuda where there is one."""
    passes_at_most: int = 12
    """Passes over the training rows."""
    patience: int = 2
    """Passes without a better validation loss before training stops."""
    validation_days: int = 1
    """Last days of the training window, held out to choose when to stop."""
    refit: bool = True
    """After stopping, train anew on the whole window, validation days included, for the best number
    of passes: the last days say most about the next."""
    daily_share: float = 0.75
    """Share of stretches that see what a nightly feed would; the others a live one, half of them
    with an outcome delay of up to a day."""
    tokens_per_batch: int = 3000
    """Events in a batch, padding and candidates counted."""
    batch_weight: str = "equal"
    """How much a batch counts: equal, so that an impression counts less the more of them its batch
    has, those of viewers with many; or impressions, as many as it has, so that all count alike."""
    history_dropout: float = 0.3
    """Share of past events hidden in a training batch, so that a viewer is not known by heart."""
    min_views: int = 2
    """A video seen less often in the training window has no id of its own."""
    checkpoint_every_s: float = 60.0
    """Seconds between checkpoints inside a pass, from which `--resume` goes on; more where they
    would take over 3 % of the processor; 0 = as often as can be."""
    checkpoints_kept: int = 2
    model: ModelSettings = field(default_factory=ModelSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    def __post_init__(self) -> None:
        check_setting("seed", self.seed, at_least=0, below=2**31)
        check_setting("threads", self.threads, at_least=0, at_most=1024)
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_setting("passes_at_most", self.passes_at_most, at_least=1, at_most=10_000)
        check_setting("patience", self.patience, at_least=1)
        check_setting("validation_days", self.validation_days, at_least=1, at_most=365)
        check_setting("daily_share", self.daily_share, at_least=0, at_most=1)
        check_setting("tokens_per_batch", self.tokens_per_batch, at_least=64, at_most=10_000_000)
        check_choice("batch_weight", self.batch_weight, ("equal", "impressions"))
        check_setting("history_dropout", self.history_dropout, at_least=0, below=1)
        check_setting("min_views", self.min_views, at_least=1)
        check_setting("checkpoint_every_s", self.checkpoint_every_s, at_least=0)
        check_setting("checkpoints_kept", self.checkpoints_kept, at_least=1, at_most=1000)


class Preset(NamedTuple):
    """What a size stands for."""

    width: int
    blocks: int
    heads: int
    history_length: int
    ids: bool
    """Whether videos and authors have vectors of their own."""


PRESETS: Mapping[str, Preset] = {
    "tiny": Preset(width=16, blocks=1, heads=2, history_length=50, ids=False),
    "small": Preset(width=32, blocks=1, heads=2, history_length=100, ids=False),
    "base": Preset(width=64, blocks=1, heads=4, history_length=200, ids=True),
    "large": Preset(width=128, blocks=2, heads=8, history_length=200, ids=True),
}
"""By size, the smallest first."""

SIZED_BY_EVENTS = (("small", 5_000_000), ("base", 100_000_000))
"""size -> below how many events with a time `auto` takes it; `large` from the last on."""


def preset(size: str = "small") -> TrainSettings:
    """Derive a run's settings from one word.

    Args:
        size: One of `PRESETS`; the larger, the slower and the more data it wants.

    Raises:
        SettingError: An unknown size.

    >>> preset("tiny").model.width
    16
    """
    check_choice("preset", size, PRESETS)
    chosen = PRESETS[size]
    return TrainSettings(
        model=ModelSettings(
            width=chosen.width,
            inputs=InputSettings(ids=chosen.ids),
            encoder=EncoderSettings(
                blocks=chosen.blocks, heads=chosen.heads, history_length=chosen.history_length
            ),
            objectives=ObjectiveSettings(),
            retrieval=RetrievalSettings(width=chosen.width),
        )
    )


def size_for(num_events: int) -> str:
    """Choose a size by how much there is to learn from: what the preset `auto` does.

    Below five million events counters say more of a video than a vector of its own does
    (measured at 0.15 million, docs/log.md); where the bound lies has not been measured.

    Args:
        num_events: Events with a time in the dataset.

    >>> size_for(154_071), size_for(20_000_000)
    ('small', 'base')
    """
    for size, below in SIZED_BY_EVENTS:
        if num_events < below:
            return size
    return "large"
