"""Training says what memory it takes, and is refused what there is not."""

from pathlib import Path

import pytest

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.settings import apply_settings, parse_overrides
from skipwise.training import memory
from skipwise.training.fit import train
from skipwise.training.memory import memory_needed
from skipwise.training.settings import TrainSettings, preset


def settings_of(*words: str) -> TrainSettings:
    return apply_settings(preset("tiny"), parse_overrides(list(words)))


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("tokens_per_batch=10000000", "Lower tokens_per_batch"),
        ("model.width=4096", "Lower model.width, or leave vectors of videos out"),
    ],
)
def test_more_memory_than_there_is_is_refused_before_it_is_taken(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, advice: str
) -> None:
    monkeypatch.setattr(memory, "machine_memory_gib", lambda: 4.0)
    with pytest.raises(SettingError, match=rf"takes up to .* GiB of memory .* 4.0 GiB.*{advice}"):
        train(small_dataset, tmp_path / "RUN", settings_of(word))
    assert not (tmp_path / "RUN").exists()


def test_a_table_counts_by_whether_it_is_large(small_dataset: Dataset) -> None:
    """Small: five float32 of each weight. Large: the rows and a number each, twice."""
    rows = small_dataset.videos.num_rows + len(small_dataset.author_ids)
    without, small, large = (
        memory_needed(small_dataset, settings_of(*words))["weights"]
        for words in (
            ("model.inputs.ids=false",),
            ("model.inputs.ids=true",),
            ("model.inputs.ids=true", "optimizer.sparse_from_rows=10"),
        )
    )
    assert small - without == rows * 5 * 4 * 16
    assert large - without == rows * 2 * (4 * 16 + 4)
