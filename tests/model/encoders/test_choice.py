"""Every encoder: no future, a stretch as good as one impression, a past of its own."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from skipwise.errors import SettingError
from skipwise.features.dataset import Dataset
from skipwise.labels.feedback import GROUP_OF, Group
from skipwise.model.encoder_settings import KINDS, WHOLE_HISTORY, EncoderSettings
from skipwise.model.encoders.choice import ENCODERS
from tests.models import LIVE, SHORT, stacked, tiny_settings, untrained
from tests.worlds import (
    days_of,
    timed_rows,
    with_counters,
    with_events,
    with_other_outcomes,
    with_other_videos,
)

pytestmark = pytest.mark.usefixtures("one_thread")

BASELINES = [kind for kind in KINDS if kind != "feedback"]
READING = [kind for kind in KINDS if kind != "none"]


def group_of_events(dataset: Dataset) -> NDArray[np.int64]:
    groups: NDArray[np.int64] = np.array(GROUP_OF)[np.array(dataset.events["feedback"].all())]
    return groups


def test_every_kind_has_its_modules_and_its_facts() -> None:
    assert set(ENCODERS) == set(KINDS)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_stretch_gives_what_each_impression_gives_alone(
    small_dataset: Dataset, kind: str
) -> None:
    model = untrained(small_dataset, SHORT, f"model.encoder.kind={kind}", "model.encoder.blocks=2")
    together = model.predict(model.plan(LIVE))
    alone = model.predict(model.plan(LIVE, candidates_at_most=1), tokens_per_batch=5_000)
    np.testing.assert_allclose(stacked(together), stacked(alone), rtol=1e-5, atol=1e-5)
    assert stacked(together).std(axis=0).min() > 1e-2, "the model says different things"


@pytest.mark.parametrize("kind", BASELINES)
def test_the_future_changes_nothing(small_dataset: Dataset, kind: str) -> None:
    model = untrained(small_dataset, f"model.encoder.kind={kind}")
    last = small_dataset.days[1]
    plan = model.plan(LIVE, timed_rows(small_dataset) & (days_of(small_dataset) < last))
    edited = with_other_videos(
        with_other_outcomes(small_dataset, days_of(small_dataset) == last),
        days_of(small_dataset) == last,
    )
    before, after = model.predict(plan), model.predict(plan, edited)
    np.testing.assert_array_equal(stacked(before), stacked(after))


@pytest.mark.parametrize("kind", READING)
def test_the_past_is_read(small_dataset: Dataset, kind: str) -> None:
    model = untrained(small_dataset, f"model.encoder.kind={kind}")
    first, last = small_dataset.days
    plan = model.plan(LIVE, timed_rows(small_dataset) & (days_of(small_dataset) == last))
    edited = with_other_videos(small_dataset, days_of(small_dataset) < last)
    before, after = model.predict(plan), model.predict(plan, edited)
    assert first < last
    assert np.abs(stacked(before) - stacked(after)).max() > 1e-3


@pytest.mark.parametrize("kind", READING)
def test_positives_only_means_that_no_other_event_is_read(
    small_dataset: Dataset, kind: str
) -> None:
    """What was skipped or hardly watched may have been any video; and positives do count."""
    words = (f"model.encoder.kind={kind}", "model.encoder.past=positives")
    model = untrained(small_dataset, *words)
    last = small_dataset.days[1]
    before_last, positive = (
        days_of(small_dataset) < last,
        group_of_events(small_dataset) == Group.POS,
    )
    plan = model.plan(LIVE, timed_rows(small_dataset) & ~before_last)
    before = stacked(model.predict(plan))
    of_others = with_other_videos(small_dataset, before_last & ~positive)
    np.testing.assert_allclose(
        stacked(model.predict(plan, of_others)), before, rtol=1e-6, atol=1e-6
    )
    of_positives = with_other_videos(small_dataset, before_last & positive)
    assert np.abs(stacked(model.predict(plan, of_positives)) - before).max() > 1e-3


@pytest.mark.parametrize(
    ("words", "told"), [((), True), (("model.inputs.use_skips=false",), False)]
)
def test_without_skips_no_count_of_glances_and_no_run_of_them_enters(
    small_dataset: Dataset, words: tuple[str, ...], told: bool
) -> None:
    model = untrained(small_dataset, *words)
    of_glances = [
        place
        for place, name in enumerate(small_dataset.counter_names)
        if name.endswith((".glance", ".glance_known"))
    ]

    def more(counters: NDArray[np.float32]) -> NDArray[np.float32]:
        counters[:, of_glances] += 7
        return counters

    plan = model.plan(LIVE)
    before = stacked(model.predict(plan))
    for edited in (
        with_counters(small_dataset, more),
        with_events(small_dataset, glance_run=lambda run: run + 1),
    ):
        after = stacked(model.predict(plan, edited))
        assert bool((np.abs(after - before) > 1e-4).any()) is told


@pytest.mark.parametrize("kind", READING)
def test_by_default_an_encoder_reads_the_past_it_was_published_with(kind: str) -> None:
    own = EncoderSettings(kind=kind).reads_positives_only
    assert own is (kind not in {"feedback", "dfar"})
    assert not EncoderSettings(kind=kind, past="all").reads_positives_only


def test_a_recurrent_state_reaches_back_to_the_first_event() -> None:
    assert EncoderSettings(kind="gru4rec").reach == WHOLE_HISTORY
    assert EncoderSettings(kind="din", history_length=50).reach == 50
    assert EncoderSettings(kind="sasrec", history_length=50, blocks=2).reach == 50 + 2 * 49


def test_skips_and_watches_are_read_apart_by_dfar(small_dataset: Dataset) -> None:
    model = untrained(small_dataset, "model.encoder.kind=dfar")
    batch = model.batch(LIVE)
    with torch.no_grad():
        inputs = model.model.inputs(batch)
        _, look_QMHT = model.model.attend(batch, inputs, model.model.encode(batch, inputs))
    skipped_MT = (torch.tensor(GROUP_OF)[batch.feedback] == Group.NEG)[batch.stretch]
    assert float((look_QMHT[0, :, 0, 1:] * skipped_MT).sum()) == 0
    assert float((look_QMHT[1, :, 0, 1:] * ~skipped_MT).sum()) == 0
    assert float(look_QMHT[1, :, 0, 1:].sum()) > 1


def test_an_encoder_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        SettingError, match=r"encoder.kind = 'sasrek', must be .* Did you mean 'sasr"
    ):
        tiny_settings("model.encoder.kind=sasrek")
