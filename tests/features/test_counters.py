"""Counters hold what was known, weigh it by age, and hold nothing else."""

import dataclasses

import ibis
import numpy as np
import pytest
from ibis.backends.duckdb import Backend as Connection

from skipwise.errors import SettingError
from skipwise.features.counter_names import CounterConfig, counter_names
from skipwise.features.counters import counters_as_of_day, counters_as_of_event
from skipwise.features.live import LiveCounters, Shown
from tests.features.small_logs import (
    DAY_MS,
    FIRST_DAY,
    HOUR_MS,
    Coded,
    Video,
    coded_events,
    coded_videos,
    matrix,
    plain_counters,
)

CONFIG = CounterConfig(half_life_days=7.0, counted=("glance", "like"))
NAMES = counter_names(CONFIG.counted)


@pytest.fixture(scope="module")
def connection() -> Connection:
    return ibis.duckdb.connect(threads=1)


def of_event(
    connection: Connection, events: list[Coded], videos: list[Video], config: CounterConfig = CONFIG
) -> dict[int, dict[str, float]]:
    table = counters_as_of_event(
        coded_events(connection, events), coded_videos(connection, videos), config
    )
    return _named(matrix(table, config), config)


def of_day(
    connection: Connection,
    events: list[Coded],
    videos: list[Video],
    state_day: int | None = None,
    config: CounterConfig = CONFIG,
) -> dict[int, dict[str, float]]:
    table, catalogue = coded_events(connection, events), coded_videos(connection, videos)
    asks = table.filter(table.requested_at_ms >= 0).left_join(catalogue, "video")
    asks = asks.select(
        "viewer", "video", "author", "topics", "surface",
        ask_id="source_order",
        state_day=asks.day if state_day is None else ibis.literal(state_day, type="int32"),
    )  # fmt: skip
    counters = counters_as_of_day(table, catalogue, config, asks)
    return _named(matrix(counters, config), config)


def _named(
    rows: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], config: CounterConfig
) -> dict[int, dict[str, float]]:
    names = counter_names(config.counted)
    return {ask: dict(zip(names, values.tolist(), strict=True)) for ask, values in rows.items()}


def test_names_stand_in_the_documented_order() -> None:
    assert len(NAMES) == 8 * (1 + 2 * 2)
    assert NAMES[:5] == (
        "video.views", "video.glance_known", "video.glance", "video.like_known", "video.like"
    )  # fmt: skip
    assert [name for name in NAMES if name.endswith(".views")] == [
        "video.views", "author.views", "topic.views", "viewer.views", "viewer_author.views",
        "viewer_topic.views", "viewer_surface.views", "viewer_video.views",
    ]  # fmt: skip
    assert counter_names(("like", "glance")) == NAMES


def test_three_watches_count_as_worked_by_hand(connection: Connection) -> None:
    events = [
        Coded(viewer=0, video=0, shown_ms=0, glance=1, like=0),
        Coded(viewer=1, video=0, shown_ms=DAY_MS, glance=0, like=-1),
        Coded(viewer=0, video=0, shown_ms=3 * DAY_MS + HOUR_MS, surface=2),
    ]
    row = of_event(connection, events, [Video(author=1, topics=(1,))])[2]
    three_days, two_days = 0.5 ** (3 / 7), 0.5 ** (2 / 7)
    assert row["video.views"] == pytest.approx(three_days + two_days)
    assert row["video.glance_known"] == pytest.approx(three_days + two_days)
    assert row["video.glance"] == pytest.approx(three_days)
    assert row["video.like_known"] == pytest.approx(three_days)
    assert row["video.like"] == 0
    assert row["viewer_video.views"] == pytest.approx(three_days)
    assert row["author.views"] == row["topic.views"] == row["video.views"]
    assert row["viewer_surface.views"] == 0, "the earlier ones were on another surface"


def test_an_outcome_known_in_the_millisecond_of_the_request_is_seen(connection: Connection) -> None:
    def views(asked_ms: int) -> float:
        first = Coded(shown_ms=0, watch_ms=5_000)
        return of_event(connection, [first, Coded(shown_ms=asked_ms)], [Video()])[1]["video.views"]

    assert views(5_000) == 1
    assert views(4_999) == 0


def test_no_event_of_a_request_sees_another_of_it(connection: Connection) -> None:
    slate = [
        Coded(shown_ms=minute * 60_000, watch_ms=0, request_ms_before=minute * 60_000)
        for minute in range(3)
    ]
    rows = of_event(connection, slate, [Video()])
    assert [rows[place]["viewer.views"] for place in range(3)] == [0, 0, 0]


def test_the_day_form_holds_whole_days_before_and_nothing_of_the_day(
    connection: Connection,
) -> None:
    events = [
        Coded(shown_ms=DAY_MS - 1_000, watch_ms=500),
        Coded(shown_ms=DAY_MS - 1_000, watch_ms=5_000),  # known after midnight
        Coded(shown_ms=DAY_MS + HOUR_MS),
        Coded(shown_ms=2 * DAY_MS),
    ]
    rows = of_day(connection, events, [Video()])
    views = [rows[place]["video.views"] for place in range(4)]
    one_day, two_days = 0.5 ** (1 / 7), 0.5 ** (2 / 7)
    assert views == pytest.approx([0, 0, one_day, two_days + 2 * one_day])


def test_a_state_frozen_at_the_end_of_training_is_the_same_on_every_later_day(
    connection: Connection,
) -> None:
    events = [Coded(shown_ms=day * DAY_MS, glance=1) for day in range(5)]
    rows = of_day(connection, events, [Video()], state_day=FIRST_DAY + 2)
    expected = 0.5 ** (2 / 7) + 0.5 ** (1 / 7)
    assert [row["video.glance"] for row in rows.values()] == pytest.approx([expected] * 5)


def test_untimed_history_is_known_before_everything_and_never_asks(connection: Connection) -> None:
    events = [Coded(shown_ms=None, like=1, surface=0), Coded(shown_ms=0)]
    for rows in (of_event(connection, events, [Video()]), of_day(connection, events, [Video()])):
        assert list(rows) == [1]
        assert rows[1]["viewer_video.like"] == pytest.approx(0.5 ** (1 / 7))
        assert rows[1]["viewer_video.glance_known"] == 0


def test_unknown_authors_topics_and_surfaces_count_nothing(connection: Connection) -> None:
    events = [Coded(shown_ms=0, surface=0), Coded(shown_ms=HOUR_MS, surface=0)]
    row = of_event(connection, events, [Video(author=0, topics=())])[1]
    assert {name for name, value in row.items() if value} == {
        "video.views", "viewer.views", "viewer_video.views"
    }  # fmt: skip


def test_a_video_adds_to_each_of_its_topics_and_an_ask_sums_over_its_own(
    connection: Connection,
) -> None:
    videos = [Video(topics=(1, 2)), Video(topics=(2,)), Video(topics=(1, 2, 3))]
    events = [
        Coded(video=0, shown_ms=0),
        Coded(video=1, shown_ms=0),
        Coded(video=2, shown_ms=HOUR_MS),
    ]
    row = of_event(connection, events, videos)[2]
    assert row["topic.views"] == 1 + 2 + 0
    assert row["viewer_topic.views"] == 3


def test_without_a_half_life_nothing_is_forgotten(connection: Connection) -> None:
    config = dataclasses.replace(CONFIG, half_life_days=None)
    events = [Coded(shown_ms=0), Coded(shown_ms=400 * DAY_MS)]
    assert of_event(connection, events, [Video()], config)[1]["video.views"] == 1


def test_a_half_life_too_short_for_the_log_is_refused_with_the_shortest_that_works(
    connection: Connection,
) -> None:
    config = dataclasses.replace(CONFIG, half_life_days=0.01)
    short = [Coded(shown_ms=0), Coded(shown_ms=20 * DAY_MS)]
    newest = of_event(connection, [*short, Coded(shown_ms=20 * DAY_MS + 6_000)], [Video()], config)
    assert newest[2]["video.views"] == 1, "an outcome of the same day weighs 1, even then"
    with pytest.raises(SettingError, match=r"half_life_days = 0\.01 .* 21 days, .* least 0\.0105"):
        of_event(connection, [Coded(shown_ms=0), Coded(shown_ms=21 * DAY_MS)], [Video()], config)


@pytest.mark.parametrize(
    "change",
    [{"half_life_days": 0.0}, {"counted": ("glance", "watch")}, {"counted": ("like", "like")}],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=next(iter(change))):
        CounterConfig(**change)  # type: ignore[arg-type]


def test_the_future_cannot_change_the_past(connection: Connection) -> None:
    """Editing one outcome changes no ask before it was known, and does change later ones."""
    generator = np.random.default_rng(3)
    events = [
        Coded(
            viewer=int(generator.integers(2)),
            video=int(generator.integers(2)),
            shown_ms=int(generator.integers(4 * DAY_MS)),
            delay_ms=int(generator.choice([0, 7 * HOUR_MS])),
            glance=int(generator.integers(2)),
        )
        for _ in range(60)
    ]
    edited_place = int(np.argsort([event.known_at_ms for event in events])[25])
    edited = list(events)
    event = edited[edited_place]
    edited[edited_place] = dataclasses.replace(event, glance=1 - event.glance, like=1, surface=2)
    videos = [Video(author=1, topics=(1,)), Video(author=1, topics=(2,))]
    before, after = of_event(connection, events, videos), of_event(connection, edited, videos)
    asked = [other.requested_at_ms for other in events]
    changed = {ask for ask in before if before[ask] != after[ask]} - {edited_place}
    assert changed
    assert all(asked[ask] >= event.known_at_ms for ask in changed)
    before, after = of_day(connection, events, videos), of_day(connection, edited, videos)
    changed = {ask for ask in before if before[ask] != after[ask]} - {edited_place}
    assert changed
    assert all(events[ask].day > event.known_day for ask in changed)


def small_worlds(
    number: int, random: np.random.Generator, events_of_each: int = 25
) -> tuple[list[Coded], list[Video]]:
    """Make worlds of three viewers and three videos that share nobody and nothing but surfaces.

    Moments fall on each other and on the edges of days, and of everything there is the unknown.
    """

    def pick(*values: int) -> int:
        return values[int(random.integers(len(values)))]

    events, videos = [], []
    for world in range(number):
        for _ in range(3):
            topics = 3 * world + 1 + random.permutation(3)[: pick(0, 1, 2, 3)]
            author = 2 * world + pick(1, 2) if random.random() < 0.7 else 0
            videos.append(Video(author=author, topics=tuple(topics.tolist())))
        for _ in range(events_of_each):
            moment = pick(0, 5_000, HOUR_MS, DAY_MS - 5_000, DAY_MS, 3 * DAY_MS)
            event = Coded(
                viewer=3 * world + pick(0, 1, 2),
                video=3 * world + pick(0, 1, 2),
                surface=pick(0, 1, 2),
                shown_ms=moment if random.random() < 0.85 else None,
                watch_ms=pick(0, 1, 5_000, HOUR_MS),
                delay_ms=pick(0, 5_000, DAY_MS),
                days_ahead=pick(0, 1),
                request_ms_before=pick(0, 5_000),
                glance=pick(-1, 0, 1),
                like=pick(-1, 0, 1),
            )
            events.append(event)
    return events, videos


@pytest.mark.parametrize("half_life_days", [None, 0.5])
def test_bulk_and_live_equal_a_plain_loop(
    connection: Connection, half_life_days: float | None
) -> None:
    config = dataclasses.replace(CONFIG, half_life_days=half_life_days)
    events, videos = small_worlds(12, np.random.default_rng(3))
    bulk = {
        "event": of_event(connection, events, videos, config),
        "day": of_day(connection, events, videos, config=config),
    }
    asking = [place for place, event in enumerate(events) if event.shown_ms is not None]
    for form, rows in bulk.items():
        assert sorted(rows) == asking
        for place in asking:
            ask = events[place]
            own_world = range(place // 25 * 25, place // 25 * 25 + 25)
            known = [events[each] for each in own_world if is_known(form, events[each], ask)]
            clock_day = ask.asked_clock_day if form == "event" else ask.day
            expected = plain_counters(ask, clock_day, known, videos, config)
            np.testing.assert_allclose(list(rows[place].values()), expected, rtol=1e-6)
            live = learnt(known, videos, config).ask(shown(ask, videos), clock_day)
            np.testing.assert_allclose(live, expected, rtol=1e-6)


def is_known(form: str, event: Coded, ask: Coded) -> bool:
    if form == "event":
        return event.known_at_ms <= ask.requested_at_ms
    return event.known_day < ask.day


def learnt(known: list[Coded], videos: list[Video], config: CounterConfig) -> LiveCounters:
    counters = LiveCounters(config)
    for event in known:
        verdicts = {"glance": event.glance, "like": event.like}
        counters.learn(
            shown(event, videos),
            {name: None if verdict < 0 else verdict == 1 for name, verdict in verdicts.items()},
            event.known_clock_day,
        )
    return counters


def shown(event: Coded, videos: list[Video]) -> Shown:
    video = videos[event.video]
    return Shown(
        viewer=event.viewer,
        video=event.video,
        author=video.author,
        topics=video.topics,
        surface=event.surface,
    )
