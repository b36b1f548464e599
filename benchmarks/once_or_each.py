"""Is a model that encodes a viewer once as good as one that encodes every impression's own past?

    SEEDS=0,1,2 PASSES=4,2 ONCE="key=value" EACH="key=value" python -m benchmarks.once_or_each

Real rows (KuaiRand-Pure): learnt until 1 May, measured on 2-3 May after every pass; with CHOOSE=1
learnt until 29 April and measured on 30 April - 1 May, which is where settings are chosen. The same
network and rows, and about as many impressions in a batch: in the one each stretch of a viewer is
encoded once, in the other each impression is a stretch of its own. PASSES and further settings
(ONCE, EACH, both: WORDS) may differ, as each learns best. Processor seconds are of learning alone.

AUC, GAUC and log-loss of the second after each of its passes less the first after as many as took
no more processor time, and of both after their last; 95 % over viewers, of the mean over seeds.
Without the retrieval head. A training's figures are kept by fingerprint: after Ctrl-C, or with
another seed more, what is there is not trained again.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import quality, quality_report
from benchmarks.quality_measures import METRICS, OBJECTIVES, Values
from benchmarks.quality_runs import Bench, code_fingerprint
from numpy.typing import NDArray

from skipwise.evaluation.bootstrap import interval, replicate
from skipwise.evaluation.evaluate import groups
from skipwise.evaluation.figures import objective_figures
from skipwise.evaluation.scored import Scored
from skipwise.features.dataset import Dataset, day_number
from skipwise.features.stretches import Plan, plan_stretches
from skipwise.features.view import View
from skipwise.model.predict import predict_rows
from skipwise.settings import apply_settings, parse_overrides, settings_to_dict
from skipwise.training.learner import Learner
from skipwise.training.outset import set_out
from skipwise.training.settings import TrainSettings, preset
from skipwise.training.views import draw_views
from skipwise.training.window import learnable_objectives, training_window

OUT = quality_report.OUT / "once_or_each.json"
DRAWS = 500
CHOSEN_ON = ("2022-04-29", "2022-04-30", "2022-05-01")
REPORTED_ON = ("2022-05-01", "2022-05-02", "2022-05-03")
"""Last day learnt, first and last day measured."""

Curve = list[tuple[float, Values]]
"""After each pass: processor seconds so far, and the figures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """One way to cut viewers into stretches, and how it is trained."""

    name: str
    candidates_at_most: int
    passes: int
    words: tuple[str, ...]

    def settings(self, seed: int) -> TrainSettings:
        """Return a run's whole settings."""
        words = [*_words("WORDS"), *self.words, f"seed={seed}", "loss.retrieval=0"]
        return apply_settings(preset("small"), parse_overrides(words))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """What is learnt and what is measured."""

    dataset: Dataset
    learnt: NDArray[np.bool_]
    """(E,) event rows that are learnt."""
    known: NDArray[np.int64]
    """(K,) event rows whose outcomes may be known by then."""
    measured: NDArray[np.bool_]
    """(E,) event rows that are measured, as of the start of their day."""


def main() -> None:
    """Train both with every seed, print and keep the differences."""
    torch.set_num_threads(1)
    seeds = [int(seed) for seed in os.environ.get("SEEDS", "0,1,2").split(",")]
    rows = chosen_rows(quality.real_bench("small", (), p1=False))
    found: dict[str, list[dict[str, Any]]] = {}
    for form in forms(rows):
        runs = [kept_curve(form, rows, seed) for seed in seeds]
        found[form.name] = [
            {
                "pass": number + 1,
                "cpu_s": float(np.mean([spent_s for spent_s, _ in of_seeds])),
                "values": {
                    key: np.mean([values[key] for _, values in of_seeds], axis=0)
                    for key in of_seeds[0][1]
                },
            }
            for number, of_seeds in enumerate(zip(*runs, strict=True))
        ]
    report(seeds, found)


def forms(rows: Rows) -> list[Form]:
    """Return both forms, with tokens per batch that give both as many impressions in one."""
    once, each = (int(number) for number in os.environ.get("PASSES", "2,2").split(","))
    cost = {}
    for name, at_most in (("once", 256), ("each", 1)):
        cut = plan(rows, rows.learnt, preset("small"), at_most, None)
        cost[name] = float(cut.num_tokens.sum() / len(cut.candidate_rows))
        print(
            f"{name}: {len(cut.candidate_rows):,} impressions in {len(cut):,} stretches, "
            f"{cost[name]:.1f} events encoded for each"
        )
    tokens = int(preset("small").tokens_per_batch * cost["each"] / cost["once"])
    own = (f"tokens_per_batch={tokens}", *_words("EACH"))
    own = tuple({word.partition("=")[0]: word for word in own}.values())
    return [
        Form(name="once", candidates_at_most=256, passes=once, words=_words("ONCE")),
        Form(name="each", candidates_at_most=1, passes=each, words=own),
    ]


def chosen_rows(bench: Bench) -> Rows:
    """Return the rows of the days that are reported, or of those that settings are chosen on."""
    last, first_measured, last_measured = (
        day_number(day) for day in (CHOSEN_ON if os.environ.get("CHOOSE") else REPORTED_ON)
    )
    window = training_window(bench.dataset, last, 1)
    days = (window.day >= first_measured) & (window.day <= last_measured)
    return Rows(
        dataset=bench.dataset,
        learnt=window.training(with_validation=True),
        known=np.flatnonzero(window.known(with_validation=True)),
        measured=window.timed & days,
    )


def kept_curve(form: Form, rows: Rows, seed: int) -> Curve:
    """Return what `curve` yields, from the disk where it is there."""
    cut = (form.candidates_at_most, form.passes, settings_to_dict(form.settings(seed)))
    facts = [rows.dataset.fingerprint, code_fingerprint(), os.environ.get("CHOOSE", ""), DRAWS, cut]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
    file = quality.KEPT / "curves" / f"{key}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        passes = list(curve(form, rows, seed))
        arrays = {
            f"{number} {name}": values
            for number, (spent_s, figures) in enumerate(passes)
            for name, values in {**figures, "cpu_s": np.array(spent_s)}.items()
        }
        aside = file.with_suffix(".part.npz")
        np.savez(aside, allow_pickle=False, **arrays)
        aside.rename(file)
    found: list[Values] = [{} for _ in range(form.passes)]
    with np.load(file, allow_pickle=False) as kept:
        for name in kept.files:
            number, _, figure = name.partition(" ")
            found[int(number)][figure] = kept[name]
    return [(float(values.pop("cpu_s")), values) for values in found]


def curve(form: Form, rows: Rows, seed: int) -> Iterator[tuple[float, Values]]:
    """Train as `skipwise train` does, and measure after each pass.

    Yields:
        Processor seconds of learning so far, and the figures then.
    """
    settings = form.settings(seed)
    objectives, _ = learnable_objectives(rows.dataset, rows.learnt)
    learner = set_out(rows.dataset, rows.learnt, rows.known, objectives, settings).learner
    if settings.precision != "auto":  # fp32 then, so that figures do not hang on a trial
        learner.precision = settings.precision
    measured = plan(rows, rows.measured, settings, 256, None)
    step, spent_s = 0, 0.0
    for number in range(form.passes):
        started = time.process_time()
        generator = np.random.default_rng([seed, 1, number])
        cut = plan(rows, rows.learnt, settings, form.candidates_at_most, generator)
        for chosen in learner.batches(cut, generator):
            learner.step(learner.read(cut, chosen), step)
            step += 1
        spent_s += time.process_time() - started
        values = figures(learner, rows.dataset, measured)
        print(
            f"{form.name}, seed {seed}, pass {number + 1}: {step:,} steps, {spent_s:.0f} s CPU, "
            + "AUC "
            + ", ".join(f"{name} {values[f'{name}/auc'][0]:.4f}" for name in OBJECTIVES),
            flush=True,
        )
        yield spent_s, values


def plan(
    rows: Rows,
    selected: NDArray[np.bool_],
    settings: TrainSettings,
    candidates_at_most: int,
    generator: np.random.Generator | None,
) -> Plan:
    """Cut rows into stretches: with chance as a pass of training does, without it nightly."""
    viewers = np.unique(rows.dataset.events["viewer"].take(np.flatnonzero(selected)))
    return plan_stretches(
        rows.dataset,
        selected,
        draw_views(len(viewers), settings.daily_share, generator) if generator else View(),
        reach=settings.model.encoder.reach,
        candidates_at_most=candidates_at_most,
    )


def figures(learner: Learner, dataset: Dataset, measured: Plan) -> Values:
    """Measure the mean weights: of everybody, then of drawn viewers."""
    with learner.averaged() as model:
        predicted = predict_rows(model, learner.catalogue, dataset, measured)
    row, events = predicted.row, dataset.events
    start = np.repeat(measured.start, measured.num_candidates)
    scored = Scored(
        viewer=events["viewer"].take(row).astype(np.int64),
        group=groups(dataset, row, "daily"),
        visible=measured.candidate_prefix + start,  # a plan's candidates stand in row order
        labels={name: events[f"label_{name}"].take(row) for name in OBJECTIVES},
        probabilities=predicted.probabilities(),
        watch_s=events["watch_s"].take(row).astype(np.float64),
        expected_watch_s=predicted.expected_watch_s,
        duration_s=events["duration_s"].take(row).astype(np.float64),
        slices={},
    )
    statistics = {
        f"{name}/{metric}": statistic
        for name in OBJECTIVES
        for metric, statistic in objective_figures(
            scored, name, ndcg_at=5, calibration_bins=15
        ).statistics.items()
        if metric in METRICS
    }
    return replicate(statistics, scored.viewer_ix()[1], samples=DRAWS, seed=0)


def report(seeds: list[int], found: dict[str, list[dict[str, Any]]]) -> None:
    """Print what the second is ahead by, and write it."""
    written = []
    for once, each in pairs(found["once"], found["each"]):
        print(
            f"\nonce after {once['pass']} passes, {once['cpu_s']:.0f} s CPU a training; each after "
            f"{each['pass']}, {each['cpu_s']:.0f} s"
        )
        for key, values in once["values"].items():
            apart = interval(each["values"][key] - values)
            print(
                f"{key:>20}  once {values[0]:.4f}  each {each['values'][key][0]:.4f}  "
                f"{apart.value:+.4f} ({apart.low:+.4f} to {apart.high:+.4f})"
            )
            places = {"once_passes": once["pass"], "each_passes": each["pass"]}
            written.append({**places, "figure": key, **apart._asdict()})
    curves = {
        name: [
            {
                "pass": each["pass"],
                "cpu_s": each["cpu_s"],
                **{key: value[0] for key, value in each["values"].items()},
            }
            for each in passes
        ]
        for name, passes in found.items()
    }
    facts = {
        "seeds": seeds,
        "chosen_on": bool(os.environ.get("CHOOSE")),
        "words": {name: os.environ.get(name, "") for name in ("WORDS", "ONCE", "EACH")},
        "curves": curves,
        "each_less_once": written,
    }
    OUT.write_text(json.dumps(facts, indent=1))


def pairs(
    once: list[dict[str, Any]], each: list[dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Choose what to compare: each pass of `each` with what `once` had learnt by then; the ends."""
    by_then = [
        ([own for own in once if own["cpu_s"] <= other["cpu_s"]][-1], other)
        for other in each
        if once[0]["cpu_s"] <= other["cpu_s"]
    ]
    ends = (once[-1], each[-1])
    return by_then if by_then and by_then[-1][0] is once[-1] else [*by_then, ends]


def _words(variable: str) -> tuple[str, ...]:
    return tuple(os.environ.get(variable, "").split())


if __name__ == "__main__":
    Path(quality.KEPT).mkdir(parents=True, exist_ok=True)
    main()
