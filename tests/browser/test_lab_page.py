"""The lab in a real browser: what it shows is there, says when it is not, and can be acted on."""

import re
from pathlib import Path
from typing import Any

from tests.browser.conftest import Locked, Play, base_of
from tests.serving.running import Client

SLOW_MS = 11_000
"""Longer than the page waits for anything but a model."""


def test_the_lab_shows_a_real_experiment_and_a_real_search_and_the_docs_every_request(
    experimented: Client, play: Play, tmp_path: Path
) -> None:
    def skips_of() -> dict[str, Any]:
        found = experimented.ask("GET", "/v1/lab")["calibration"]
        return next((each for each in found if each["objective"] == "glance"), {})

    before = skips_of()
    watch_some(experimented)
    skips = skips_of()
    assert skips["shown"] - before.get("shown", 0) == 8
    assert skips["happened"] - before.get("happened", 0) == 4
    told = play("reads", base=base_of(experimented), folder=str(tmp_path))
    seen = experimented.ask("GET", "/v1/lab")["experiments"]
    api = experimented.ask("GET", "/openapi.json")
    for size in ("phone", "desk"):
        assert told[size]["problems"] == []
        lab, docs = told[size]["lab"], told[size]["docs"]
        assert [len(each["looks"]) for each in seen] == [
            each["days"] for each in lab["experiments"]
        ]
        assert max(each["days"] for each in lab["experiments"]) == 3
        assert all("simulated viewers" in each["said"] for each in lab["experiments"])
        assert "What can be had for what?" in lab["titles"]
        assert lab["front"] > 1
        rate, stages, promises = (lab["cards"][name] for name in ("rate", "stages", "promises"))
        assert re.fullmatch(r"\d+\.\d a second now; \d+ refused, \d+ failed", rate["answer"])
        assert re.match(r"Requests a second over the last minutes: now \d", rate["label"])
        assert "s ago" in rate["text"]
        assert stages["answer"] == "Median and the slowest of a hundred, ms"
        for stage in ("a feed", "· retrieve", "· score", "events", "· to disk"):
            assert re.search(rf"{stage} \d+(\.\d)? / \d+(\.\d)?(;|$)", stages["label"]), stage
        promised, came = (
            f"{100 * skips[part] / skips['shown']:.0f}\xa0%" for part in ("expected", "happened")
        )
        text = f"skip {promised} promised, {came} of {skips['shown']} happened"
        assert text in promises["label"]
        assert "95 %" in promises["answer"]
        assert lab["shifted"] < 0.1
        assert not lab["wide"]
        assert set(api["paths"]) == {each for each in docs["requests"] if each.startswith("/")}
        assert docs["types"] == len(api["components"]["schemas"])
        assert docs["examples"] == [
            operation["requestBody"]["content"]["application/json"]["example"]
            for methods in api["paths"].values()
            for operation in methods.values()
            if "requestBody" in operation
        ]
        assert docs["dead"] == []
        assert not docs["wide"]


def watch_some(client: Client) -> None:
    """Skip four videos that were served and watch four."""
    facts = client.ask("GET", "/v1/page")["feed"]
    slate = client.ask("POST", "/v1/feed", {"viewer_id": "new-watches", "k": 8, "describe": True})
    for at, item in enumerate(slate["items"]):
        client.keep(
            {
                "event_id": f"watched-{at}",
                "viewer_id": "new-watches",
                "video_id": item["video_id"],
                "shown_at_ms": facts["now_ms"] + 100 * at,
                "watch_ms": 500 if at % 2 else 4_000,
                "duration_ms": item["shown"]["duration_ms"],
                "request_id": slate["request_id"],
                "surface": facts["surface"],
                "position": at,
            }
        )


def test_a_model_is_swapped_in_and_rolled_back_from_the_page_however_long_it_loads(
    beside: Client, play: Play
) -> None:
    told = play("swaps", base=base_of(beside), run="second", slowMs=SLOW_MS)
    assert told["problems"] == []
    assert told["same"] == "first answers already: pick another run to swap in or to try."
    assert told["none"].startswith("Nothing to roll back to: ")
    assert told["asked"] == {
        "words": "Swap in second for every viewer?",
        "focused": "No",
        "left": ["Swap in", "first", "second"],
    }
    before, swapped, back = told["told"]
    assert [each["serves"] for each in (before, swapped, back)] == ["first", "second", "first"]
    for each, name in ((before, "first"), (swapped, "second"), (back, "first")):
        assert each["answer"].startswith(f"{name} answers; version ")
    versions = [int(each["answer"].split()[3]) for each in (before, swapped, back)]
    assert versions == sorted(set(versions))
    assert [each["said"] for each in (swapped, back)] == [
        "Done: second answers.",
        "Done: first answers.",
    ]
    for each, serves in zip(told["loading"], ("first", "second"), strict=True):
        assert each["said"].startswith("Loading, warming, proving… ")
        assert each["disabled"]
        assert each["serves"] == serves  # until the other has proven itself
    assert "Model first@" in told["feed"]
    models = beside.ask("GET", "/v1/models")
    assert (models["current"], models["previous"]) == ("first", "second")


def test_a_card_that_cannot_be_drawn_says_so_alone_and_thin_or_clear_figures_are_said_in_words(
    feed: Client, play: Play
) -> None:
    def seen(metric: str, *bounds: tuple[float, float], fewer: bool = False) -> dict[str, Any]:
        looks = [
            {"day": day, "effect": (low + high) / 2, "low": low, "high": high}
            for day, (low, high) in enumerate(bounds)
        ]
        names = {"experiment": "by-hand", "control": "old", "treatment": "new"}
        held = {"simulated": False, "days": 7, "alpha": 0.1, "fewer_is_better": fewer}
        return {"metric": metric, **names, **held, "looks": looks}

    nothing, less, more = (-0.1, 0.1), (-0.2, -0.01), (0.01, 0.2)
    (sample,) = feed.ask("GET", "/v1/lab")["samples"][-1:]
    samples = [
        sample | {"at_ms": sample["at_ms"] + 5000 * at, "views": 90 + at, "glances": 30} | busy
        for at in range(5)
        for busy in [{"requests": 100 + 12 * at, "refused": 1233 + at // 4, "failed": at + 3}]
    ]
    experiments = [
        seen("watch_per_viewer", nothing, nothing, nothing),
        seen("glance_rate", nothing, less, less, fewer=True),
        seen("watch_per_view", more, nothing),
        seen("return_rate", nothing, nothing, less),
    ]
    told = play("mends", base=base_of(feed), samples=samples, experiments=experiments)
    assert [each for each in told["problems"] if "TypeError" not in each] == []
    assert "It cannot be drawn" in told["broken"]["promises"]
    assert "It cannot be drawn" in told["broken"]["experiments"]
    assert "cannot" not in told["mended"]["promises"] + told["mended"]["experiments"]
    assert "Fewer than 5 views in the last minutes." in told["crafted"]["skips"]
    assert told["crafted"]["rate"] == "2.4 a second now; 1,234 refused, 7 failed"
    assert told["crafted"]["answer"] == (
        "by-hand, skips per view: lower with new than with old, which is better; "
        "clear of chance (90 %, this metric alone) since day 2. "
        "by-hand, watch time per view: higher with new than with old, which is better; "
        "clear of chance (90 %, this metric alone) since day 1, no longer in the last look. "
        "by-hand, viewers who return: lower with new than with old, which is worse; "
        "clear of chance (90 %, this metric alone) since day 3."
    )


def test_a_trial_is_drawn_as_it_goes_and_what_was_picked_stays_picked(
    beside: Client, play: Play
) -> None:
    arm = {"views": 600, "skip_rate": 0.41, "bias": {"glance": 0.012, "long": None}}
    trial = {
        "since_ms": 1_700_000_000_000,
        "decision": "open",
        "words": "Nothing worse is shown so far.",
        "current": {"run": "first", **arm},
        "canary": {"run": "newest", **arm, "skip_rate": None},
    }
    told = [
        {"at_ms": 1_700_000_000_000 + at, "what": "tried", "run": f"model-{at}", "why": "by hand"}
        for at in range(7)
    ]
    seen = play("tries", base=base_of(beside), run="second", trial=trial, told=told)
    assert seen["problems"] == []
    assert seen["title"] == "On trial since 2023-11-14 22:13 UTC: open"
    assert seen["looks"] > 1
    answers, canary = seen["rows"]
    missing = "\N{EN DASH}"
    assert answers == ["answers: first", "600", "41.0\xa0%", "1.2\xa0%", missing, missing]
    assert canary[0] == "canary: newest"
    assert int(canary[1]) > 601
    assert canary[2] == missing
    assert seen["picked"] == "second"
    assert [each.split(": ")[1] for each in seen["told"]] == [
        f"tried model-{at}; by hand" for at in (6, 5, 4, 3, 2)
    ]


def test_the_lab_says_which_key_it_needs_and_draws_nothing_without_it(
    locked: Locked, play: Play
) -> None:
    told = play("unlocks", base=base_of(locked.client), keys=locked.keys)
    assert [each for each in told["problems"] if "status of 401" not in each] == []
    assert "--scopes feed,events,admin" in told["asked"]
    assert "That key" not in told["asked"]
    assert (
        "A key is needed: the lab opens with one that has the scope admin." in told["left"]["words"]
    )
    assert "Back to the feed" in told["left"]["words"]
    assert told["left"]["focused"] == "Give a key"
    held = {"invalid": "true", "tied": True, "kept": None}
    assert told["refused"] == [
        {"words": "This server does not know that key.", **held},
        {"words": "That key opens events, feed; this needs admin.", **held},
    ]
    assert told["drawn"] == 0
    assert told["before"] == 0
    assert told["opened"] == 8
    assert told["later"] == 1  # a key that opens it no more is not tried again and again
