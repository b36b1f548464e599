"""The lab in a real browser: what it shows is there, says when it is not, and can be acted on."""

from pathlib import Path
from typing import Any

from tests.browser.conftest import Play, base_of
from tests.serving.running import Client

SLOW_MS = 11_000
"""Longer than the page waits for anything but a model."""


def test_the_lab_shows_a_real_experiment_and_a_real_search_and_the_docs_every_request(
    experimented: Client, play: Play, tmp_path: Path
) -> None:
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
        assert lab["shifted"] < 0.1
        assert not lab["wide"]
        assert set(api["paths"]) == {each for each in docs["requests"] if each.startswith("/")}
        assert docs["types"] == len(api["components"]["schemas"])
        assert docs["dead"] == []
        assert not docs["wide"]


def test_a_model_is_swapped_in_and_rolled_back_from_the_page_however_long_it_loads(
    beside: Client, play: Play
) -> None:
    told = play("swaps", base=base_of(beside), run="second", slowMs=SLOW_MS)
    assert told["problems"] == []
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
    def seen(metric: str, *bounds: tuple[float, float]) -> dict[str, Any]:
        looks = [
            {"day": day, "effect": (low + high) / 2, "low": low, "high": high}
            for day, (low, high) in enumerate(bounds)
        ]
        names = {"experiment": "by-hand", "control": "old", "treatment": "new"}
        return {"metric": metric, **names, "simulated": False, "days": 7, "looks": looks}

    nothing, less, more = (-0.1, 0.1), (-0.2, -0.01), (0.01, 0.2)
    (sample,) = feed.ask("GET", "/v1/lab")["samples"][-1:]
    samples = [
        sample | {"at_ms": sample["at_ms"] + 5000 * at, "views": 90 + at, "glances": 30}
        for at in range(5)
    ]
    experiments = [
        seen("watch_per_viewer", nothing, nothing, nothing),
        seen("glance_rate", nothing, less, less),
        seen("watch_per_view", more, nothing),
        seen("return_rate", nothing, nothing, less),
    ]
    told = play("mends", base=base_of(feed), samples=samples, experiments=experiments)
    assert [each for each in told["problems"] if "TypeError" not in each] == []
    assert "It cannot be drawn" in told["broken"]["promises"]
    assert "It cannot be drawn" in told["broken"]["experiments"]
    assert "cannot" not in told["mended"]["promises"] + told["mended"]["experiments"]
    assert "Fewer than 5 views in the last minutes." in told["crafted"]["skips"]
    assert told["crafted"]["answer"] == (
        "by-hand, skips per view: lower with new than with old, which is better; "
        "clear of chance since day 2. "
        "by-hand, watch time per view: higher with new than with old, which is better; "
        "clear of chance since day 1, no longer in the last look. "
        "by-hand, viewers who return: lower with new than with old, which is worse; "
        "clear of chance since day 3."
    )
