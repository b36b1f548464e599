"""What is read becomes numbers: counters by their formula, ids by their tables, padding by none."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logit

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.features.view import View
from skipwise.features.vocabulary import UNSEEN
from skipwise.labels.feedback import GROUP_OF
from skipwise.model.batch import Batch
from skipwise.model.counter_features import CounterFeatures
from skipwise.model.inputs import Inputs
from tests.models import LIVE, Untrained, tiny_settings, untrained

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("video.views", "video.glance_known", "video.glance", "viewer.views")


def test_counters_are_worked_by_hand() -> None:
    """One video: 8 known, 6 glances; in all 20 known, 14 glances: r = 14.5 / 21; prior 10."""
    counters = torch.tensor([[9.0, 8.0, 6.0, 3.0], [12.0, 12.0, 8.0, 0.0]])
    features = CounterFeatures(NAMES, prior=10.0)
    features.fit(lambda: [counters[:1], counters[1:]])  # as when rows are read some at a time
    rate = (14 + 0.5) / (20 + 1)
    raw = np.array(
        [
            [np.log1p(9), np.log1p(3), logit((6 + 10 * rate) / 18) - logit(rate), np.log1p(8)],
            [np.log1p(12), np.log1p(0), logit((8 + 10 * rate) / 22) - logit(rate), np.log1p(12)],
        ]
    )
    expected = (raw - raw.mean(0)) / raw.std(0)
    np.testing.assert_allclose(features(counters).numpy(), expected, atol=1e-5)


def test_never_seen_reads_as_average() -> None:
    """No count at all: the smoothed rate is the window's own, its logit less itself is 0."""
    features = CounterFeatures(NAMES, prior=10.0)
    features.fit(lambda: [torch.tensor([[9.0, 8.0, 6.0, 3.0], [12.0, 12.0, 8.0, 0.0]])])
    of_nothing = features(torch.zeros(1, 4))[0, 2] * features.spread[2] + features.mean[2]
    assert of_nothing.item() == pytest.approx(0.0, abs=1e-6)


def test_counters_that_never_vary_and_absurd_ones_stay_finite() -> None:
    features = CounterFeatures(NAMES, prior=10.0)
    features.fit(lambda: [torch.tensor([[5.0, 5.0, 5.0, 5.0]]).expand(7, -1)])
    assert (features(torch.full((2, 4), 5.0)).abs() < 1e-5).all()
    absurd = features(torch.tensor([[1e30, 0.0, 0.0, 1e30], [0.0, 1e30, 1e30, 0.0]]))
    assert absurd.isfinite().all()
    assert absurd.abs().max() <= 5.0


def test_a_batch_names_each_video_once_and_finds_it_again(small_dataset: Dataset) -> None:
    model = untrained(small_dataset)
    batch = model.batch(LIVE)
    code = np.array(small_dataset.events["video"].take(batch.row))
    index = torch.from_numpy(model.catalogue.video[code])
    assert torch.equal(batch.videos.video[batch.candidate_video], index)
    assert len(np.unique(batch.videos.video)) == len(batch.videos.video)
    assert (batch.token_video[~batch.token_valid] == 0).all()


@torch.no_grad()
def inputs_of(model: Untrained, batch: Batch) -> Inputs:
    inputs: Inputs = model.model.inputs(batch)
    return inputs


def test_padding_is_a_vector_of_zeros(small_dataset: Dataset) -> None:
    model = untrained(small_dataset)
    batch = model.batch(LIVE)
    events_BTD = inputs_of(model, batch).events_BTD
    assert (events_BTD[~batch.token_valid] == 0).all()
    assert (events_BTD[batch.token_valid] != 0).any(-1).all()


def test_a_video_is_the_sum_of_what_is_known_of_it(small_dataset: Dataset) -> None:
    """id + author + mean topic + duration + extras, table by table."""
    model = untrained(small_dataset, "model.inputs.ids=true")
    batch = model.batch(View())
    layer, videos = model.model.inputs, batch.videos
    assert layer.video is not None
    assert layer.author is not None
    found = inputs_of(model, batch).candidates_MD
    with torch.no_grad():
        for place, video in enumerate(batch.candidate_video[:20].tolist()):
            topics = videos.topics[video][videos.topics[video] > 0]
            expected = (
                layer.video.weight[videos.video[video]]
                + layer.author.weight[videos.author[video]]
                + (layer.topic.weight[topics].mean(0) if len(topics) else 0)
                + layer.duration.weight[videos.duration_bucket[video]]
                + layer.video_extra(videos.categories[[video]], videos.numbers[[video]])[0]
            )
            torch.testing.assert_close(found[place], expected)


def test_without_ids_videos_of_the_same_content_are_the_same(small_dataset: Dataset) -> None:
    for word, same in (("false", True), ("true", False)):
        model = untrained(small_dataset, f"model.inputs.ids={word}")
        batch = model.batch(View())
        known = inputs_of(model, batch).candidates_MD
        unseen = dataclasses.replace(
            batch, videos=dataclasses.replace(batch.videos, video=batch.videos.video * 0 + UNSEEN)
        )
        assert torch.equal(inputs_of(model, unseen).candidates_MD, known) is same


def test_an_id_is_hidden_now_and_then_in_training_and_never_after(small_dataset: Dataset) -> None:
    model = untrained(small_dataset, "model.inputs.ids=true", "model.inputs.id_dropout=0.5")
    batch = model.batch(View())
    known = inputs_of(model, batch).candidates_MD
    torch.testing.assert_close(inputs_of(model, batch).candidates_MD, known, rtol=0, atol=0)
    unseen = dataclasses.replace(
        batch, videos=dataclasses.replace(batch.videos, video=batch.videos.video * 0 + UNSEEN)
    )
    without_id = inputs_of(model, unseen).candidates_MD
    model.model.train()
    torch.manual_seed(0)
    trained = inputs_of(model, batch).candidates_MD
    hidden = torch.isclose(trained, without_id).all(-1)
    assert (hidden | torch.isclose(trained, known).all(-1)).all()
    assert 0.2 < hidden.float().mean() < 0.8


def test_the_group_of_an_answer_is_hidden_with_the_answer(small_dataset: Dataset) -> None:
    for word, expected in (("true", list(GROUP_OF)), ("false", [0] * len(GROUP_OF))):
        model = untrained(small_dataset, f"model.inputs.use_feedback={word}")
        batch = model.batch(LIVE)
        batch = dataclasses.replace(
            batch, feedback=torch.arange(len(GROUP_OF)).expand(len(batch.feedback), -1)
        )
        assert model.model.inputs.feedback_groups(batch.feedback)[0].tolist() == expected


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("id_dropout=1", "id_dropout = 1, must be >= 0 and < 1"),
        ("counter_prior=0", "counter_prior = 0, must be > 0"),
    ],
)
def test_a_wrong_input_setting_is_refused(word: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        tiny_settings(f"model.inputs.{word}")
