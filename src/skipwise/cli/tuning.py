"""Commands that ask what another order would have brought: by search, or from a random log.

    skipwise tune RUN --from DAY --to DAY --out FOLDER
    skipwise offpolicy RUN LOG --weights A.json --weights B.json

- What needs torch or an extra is imported when it is asked for.

Is read by `main`.
"""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer

from skipwise.cli.arguments import MEMORY_GIB, data_engine, day_from, settings_from
from skipwise.cli.console import Cell, ConsoleProgress, draw_table, open_console
from skipwise.cli.serving import check_serving_installed
from skipwise.errors import SettingError
from skipwise.evaluation.offpolicy import ESTIMATORS, Estimate, Pool
from skipwise.events.read import read_log
from skipwise.features.dataset import Dataset
from skipwise.model.score import ScoreWeights, load_score_weights, save_score_weights
from skipwise.settings import check_setting, nearest
from skipwise.storage import write_json


def tune_command(  # noqa: PLR0913, PLR0917 - options of a command
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for weights.json and the page.")],
    from_day: Annotated[
        str | None, typer.Option("--from", help="First day, which it has not seen.")
    ] = None,
    to_day: Annotated[str | None, typer.Option("--to", help="Last day, inclusive.")] = None,
    search_in: Annotated[
        Path | None,
        typer.Option(
            "--search-in",
            help="World of living viewers to search in, in place of days of the dataset.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Dataset; else the one it was trained on.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Today's weights; else the defaults.")
    ] = None,
    simulate: Annotated[
        Path | None,
        typer.Option(
            "--simulate", help="World of living viewers, who then live with today's and the choice."
        ),
    ] = None,
    memory: Annotated[
        float, typer.Option("--memory", help="GiB for the data engine.")
    ] = MEMORY_GIB,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="The trade: improve=glance keep=watch_s give=0.01 at=5 trials=300 seed=0.",
        ),
    ] = None,
) -> None:
    """Search score weights for a trade, as least skips at no less watch time; draw what it costs.

    Example: skipwise tune run --from 2022-05-02 --to 2022-05-03 --out tuned
    Example: skipwise tune run --from 2024-03-07 --to 2024-03-08 --out tuned --simulate world
    Example: skipwise tune run --search-in world --out tuned
    """
    if importlib.util.find_spec("optuna") is None:
        raise SettingError(
            "The search needs the package optuna, which is not installed; it comes with the extra "
            "`experiments`. In a clone: pip install '.[experiments]'."
        )
    from skipwise.evaluation.tuning import Trade, found_to_json
    from skipwise.report.tuning_page import verdict_words, write_tuning_page
    from skipwise.training.checkpoint import MODEL_FILE, load_run

    trade = settings_from(Trade(), None, overrides)
    today = ScoreWeights() if weights is None else load_score_weights(weights)
    trained = load_run(run)
    dataset = Dataset.open(data or Path(trained.description["dataset"]["path"]))
    if search_in is None:
        found = _searched_on_log(trained, dataset, (from_day, to_day), today, trade, memory)
    else:
        _refuse_days(from_day, to_day)
        found = _searched_in_world(search_in, dataset.path, run, today, trade)
    told = found_to_json(found, trade)
    lived = {}
    if simulate is not None:
        pair = (today, found.choice.weights)
        lived = _lived(simulate, dataset.path, run, pair, memory)
        told["simulated"] = {name: each._asdict() for name, each in lived.items()}
    save_score_weights(out / "weights.json", found.choice.weights)
    write_json(
        out / "tune.json",
        {
            "run": {
                "name": run.resolve().name,
                "model": trained.description["checksums"][MODEL_FILE],
            },
            "verdict": verdict_words(found, trade),
            **told,
        },
    )
    write_tuning_page(out / "report.html", found, trade, run.resolve().name)
    console = open_console()
    console.print(_judged_table(found, trade.at))
    console.print(verdict_words(found, trade), soft_wrap=True)
    if lived:
        console.print(_lived_table(lived))
    console.print(
        f"{out / 'weights.json'}: give it to `skipwise serve --weights`, to an experiment's "
        f"variant, or to PUT /v1/score. {out / 'report.html'}: the front; beside the run it is "
        "also in /lab of what serves it.",
        soft_wrap=True,
    )


def _searched_on_log(
    run: Any,
    dataset: Dataset,
    days: tuple[str | None, str | None],
    today: ScoreWeights,
    trade: Any,
    memory: float,
) -> Any:
    from skipwise.evaluation.evaluate import score_run
    from skipwise.evaluation.tuning import search

    first, last = days
    if first is None or last is None:
        raise SettingError(
            "--from and --to say on which days is searched, and both are needed; or --search-in "
            "names a simulated world. Add them."
        )
    progress = ConsoleProgress()
    span = (day_from(first, "--from"), day_from(last, "--to"))
    with data_engine(memory) as connection:
        measured = score_run(run, dataset, connection, days=span, progress=progress)
    return search(measured.scored, today, trade, progress)


def _searched_in_world(world: Path, data: Path, run: Path, today: ScoreWeights, trade: Any) -> Any:
    check_serving_installed()
    from skipwise.loop.simulated_slates import offer, search_simulated

    progress = ConsoleProgress()
    offered, crowd = offer(world, data, run, seed=trade.seed, progress=progress)
    return search_simulated(offered, crowd, today, trade, progress)


def _refuse_days(first: str | None, last: str | None) -> None:
    if first is not None or last is not None:
        raise SettingError(
            "--search-in searches on the day after the world's last, and --from and --to name days "
            "of the dataset; only one can be. Leave one of them out."
        )


def _lived(
    world: Path, data: Path, run: Path, weights: tuple[ScoreWeights, ScoreWeights], memory: float
) -> dict[str, Any]:
    """Let simulated viewers live with both; nothing where both are the same."""
    if weights[0] == weights[1]:
        return {}
    check_serving_installed()
    from skipwise.loop.simulated_trade import live_with

    with data_engine(memory) as connection:
        found = live_with(world, data, run, weights, connection, progress=ConsoleProgress())
    return dict(found)


def _lived_table(lived: dict[str, Any]) -> Any:
    rows = [
        (
            name,
            f"{each.relative:+.1%} ({each.low:+.1%} to {each.high:+.1%})",
            ", ".join(f"{seed:+.1%}" for seed in each.by_seed),
        )
        for name, each in lived.items()
    ]
    head = ("simulated viewers", "choice against today (95 %)", "by seed")
    return draw_table("SIMULATED: half of the viewers each, the real pipeline", head, rows)


def _judged_table(found: Any, at: int) -> Any:
    from skipwise.report.tuning_page import change_text, outcome_words

    named = outcome_words(found)
    rows = [
        (
            named[name],
            *(f"{by[what].value:.4f}" for what in ("today", "choice")),
            change_text(by["difference"]),
        )
        for name, by in found.judged.items()
    ]
    head = (f"in the first {at} places", "today", "choice", "difference (95 %)")
    title = (
        f"{len(found.tried) - 1} sets of weights tried; judged on viewers they were not made for"
    )
    return draw_table(title, head, rows)


def offpolicy_command(  # noqa: PLR0913, PLR0917 - options of a command
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run.")],
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Log with exposures drawn at random.")],
    from_day: Annotated[
        str, typer.Option("--from", help="First judged day; none was learnt from.")
    ],
    weights: Annotated[
        list[Path] | None, typer.Option("--weights", help="Score weights to judge; repeat it.")
    ] = None,
    candidates: Annotated[
        int, typer.Option(help="Drawn at random, and the best of them is shown.")
    ] = 10,
    uniform: Annotated[
        bool, typer.Option("--uniform", help="All were as likely, where the log does not say.")
    ] = False,
    pool: Annotated[
        str | None,
        typer.Option(
            help="With --uniform: of the videos `shown` at random, or of the `catalogue`."
        ),
    ] = None,
    least: Annotated[
        float, typer.Option(help="Effective rows below which there is no answer.")
    ] = 100.0,
    seed: Annotated[int, typer.Option(help="Of the candidates.")] = 0,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the figures.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="Mapping file of the log.")] = None,
    memory: Annotated[float, typer.Option(help="GiB for the data engine.")] = MEMORY_GIB,
) -> None:
    """Judge score weights by what a log showed at random: four estimators, with intervals.

    Example: skipwise offpolicy run log --from 2024-03-10 --weights today.json --weights tuned.json
    """
    check_serving_installed()
    from skipwise.loop.replay import judge_weights, replay

    check_setting("--candidates", candidates, at_least=2, at_most=500)
    over = _pool_from(pool, uniform=uniform)
    named = {str(path): load_score_weights(path) for path in weights or []} or {
        "the default weights": ScoreWeights()
    }
    progress = ConsoleProgress()
    with data_engine(memory) as connection:
        read = read_log(log, connection, mapping=mapping, progress=progress)
        replayed = replay(
            run,
            read,
            connection,
            day_from(from_day, "--from"),
            candidates=candidates,
            uniform=over,
            seed=seed,
            progress=progress,
        )
    found = {
        name: judge_weights(replayed, each, least_effective_rows=least)
        for name, each in named.items()
    }
    console = open_console()
    for outcome in ("glance", "watch_s"):
        rows: list[tuple[Cell, ...]] = [
            (name, way.replace("_", " "), *_estimate_texts(each.by[way]))
            for name, by in found.items()
            if (each := by.get(outcome)) is not None
            for way in ESTIMATORS
        ]
        title = (
            f"{outcome} of the best of {candidates} candidates drawn at random "
            f"({len(replayed.viewer):,} of {replayed.num_drawn:,} rows)"
        )
        console.print(draw_table(title, ("weights", "estimate", "value", "95 %"), rows))
    overlap: list[tuple[Cell, ...]] = [
        (name, each.effective_rows, f"{each.mean_weight:.2f}")
        for name, by in found.items()
        for each in list(by.values())[:1]
    ]
    head = ("weights", "effective rows", "share the lottery could have drawn")
    console.print(draw_table("How much the log says of each", head, overlap))
    if as_json is not None:
        write_json(
            as_json,
            {
                name: {outcome: dataclasses.asdict(each) for outcome, each in by.items()}
                for name, by in found.items()
            },
        )


def _pool_from(pool: str | None, *, uniform: bool) -> Pool | None:
    """Say over what a uniform lottery was held; None where the log says."""
    if pool is not None and not uniform:
        raise SettingError(
            "--pool says over what a uniform lottery was held, and goes with --uniform. Add that, "
            "or leave --pool out: then each row's own propensity counts."
        )
    match pool or "shown":
        case "shown":
            return "shown" if uniform else None
        case "catalogue":
            return "catalogue"
        case other:
            known = ("shown", "catalogue")
            raise SettingError(
                f"--pool {other} is unknown; it must be shown or catalogue.{nearest(other, known)}"
            )


def _estimate_texts(found: Estimate) -> tuple[str, str]:
    return f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}"
