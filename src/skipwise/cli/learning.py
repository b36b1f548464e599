"""Commands about models: train one, measure one, show one.

    skipwise train DATASET --out RUN
    skipwise evaluate RUN --from DAY --to DAY
    skipwise report RUN

- torch takes a second or two to load, so what needs it is imported when it is asked for; `--help`
  and the commands about logs need not wait.

Is read by `main` and `demo`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from skipwise.cli.arguments import MEMORY_GIB, data_engine, day_from, settings_from
from skipwise.cli.console import ConsoleProgress, draw_table, open_console
from skipwise.cli.launch import allocator
from skipwise.cli.replacing import RUN, ReplaceOption, check_kept
from skipwise.errors import RunError, SettingError
from skipwise.evaluation.tables import (
    EVALUATION_FILE,
    comparison_rows,
    retrieval_rows,
    scorecard_rows,
    slate_rows,
    watch_rows,
)
from skipwise.features.dataset import Dataset
from skipwise.features.soundness import check_before_training
from skipwise.features.visibility import MODES, Mode
from skipwise.model.score import ScoreWeights, load_score_weights
from skipwise.progress import SILENT
from skipwise.settings import check_choice
from skipwise.storage import check_replaceable, write_json


def train_command(  # noqa: PLR0913, PLR0917 - options of a command
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A prepared dataset.")],
    out: Annotated[Path, typer.Option("--out", help="RUN folder to write.")],
    until: Annotated[
        str | None, typer.Option(help="Last day to learn from, inclusive; else the last there is.")
    ] = None,
    size: Annotated[
        str, typer.Option("--preset", help="auto (by the data), tiny, small, base, large.")
    ] = "auto",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where training stopped.")] = False,
    replace: ReplaceOption = False,
    follow: Annotated[
        str | None,
        typer.Option(
            "--follow",
            help="DATASET is then a RUN that goes on learning from this log, or from the state of "
            "a server (sqlite:PATH, redis://HOST).",
        ),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option("--before", help="With the state of a server: the log it began with."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="With --follow: stop when the log holds no more.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, as in seed=3 model.width=64."),
    ] = None,
) -> None:
    """Train a recommender on a prepared dataset; or let a run keep learning from a growing log.

    Example: skipwise train dataset --out run --until 2022-05-01 seed=1
    Example: skipwise train run --follow log --out live publish_minutes=15
    Example: skipwise train run --follow sqlite:run/state.db --before log --out live
    """
    told = {"--until": until is not None, "--preset": size != "auto", "--resume": resume,
            "--replace": replace}  # fmt: skip
    _check_options([name for name, there in told.items() if there], follow=follow, once=once)
    if follow is not None or before is not None:
        from skipwise.cli.following import follow_log

        follow_log(dataset, follow or "", before, out, (config, overrides), once=once)
        return
    from skipwise.training.fit import train
    from skipwise.training.processes import joined
    from skipwise.training.settings import PRESETS, preset, size_for

    check_choice("--preset", size, ("auto", *PRESETS))
    opened = Dataset.open(dataset)
    last_day = None if until is None else day_from(until, "--until")
    num_events = int(opened.description["num_timed_events"])
    settings = settings_from(
        preset(size_for(num_events) if size == "auto" else size), config, overrides
    )
    with joined(device=settings.device) as processes:
        restarted = processes.restarts > 0
        resume = resume or (restarted and _is_unfinished(out))
        _check_out(out, resume=resume, replace=replace or restarted)
        processes.wait()  # all have looked before one writes
        if processes.first:
            check_before_training(dataset, opened.description, ConsoleProgress())
            if size == "auto":
                _say_size(size_for(num_events), num_events)
            open_console(stderr=True).print(allocator(os.environ), soft_wrap=True)
        train(
            opened,
            out,
            settings,
            last_day=last_day,
            resume=resume,
            processes=processes,
            progress=ConsoleProgress() if processes.first else SILENT,
            report=_show_pass if processes.first else None,
        )
        if processes.first:
            _drop_measured(out)
            _show_run(out)


def _check_options(of_training: list[str], *, follow: str | None, once: bool) -> None:
    """Refuse what would have no effect."""
    if follow is None and once:
        raise SettingError(
            "--once is said without --follow; it must go with --follow LOG, for it says when "
            "following stops. Add --follow LOG, or leave --once out."
        )
    if follow is not None and of_training:
        raise SettingError(
            f"{', '.join(of_training)} is said beside --follow; it must not be, for following "
            "takes window and network from the RUN and goes on by itself where it stopped. Leave "
            "it out; to follow anew, choose another --out."
        )


def _is_unfinished(out: Path) -> bool:
    from skipwise.training.unfinished import FOLDER, described

    return bool(described(out / FOLDER))


def _check_out(out: Path, *, resume: bool, replace: bool) -> None:
    """Refuse to write over what is there unless it was said."""
    unfinished = (out / "resume").is_dir()  # which is all that an unfinished first training holds
    if not unfinished:
        check_replaceable(out, RUN.marker, RUN.name)
    elif (out / RUN.marker).is_file() and not replace:
        raise RunError(
            f"{out} holds {RUN.name} and an unfinished training beside it; which of them is to "
            "stay must be said. Go on with the same command and --replace --resume, train anew "
            "with --replace, or choose another folder."
        )
    check_kept(out, RUN, replace=replace)
    if unfinished and not (resume or replace):
        raise RunError(
            f"{out} holds unfinished training; starting anew would discard it. "
            "Go on with the same command and --resume, or say --replace."
        )


def evaluate_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run.")],
    from_day: Annotated[str, typer.Option("--from", help="First day, inclusive.")],
    to_day: Annotated[str, typer.Option("--to", help="Last day, inclusive.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Dataset; else the one it was trained on.")
    ] = None,
    mode: Annotated[str, typer.Option(help="daily, window or progressive.")] = "daily",
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Weights of the score, TOML or JSON.")
    ] = None,
    as_json: Annotated[
        Path | None,
        typer.Option("--json", help="Also write the figures here; - prints them alone."),
    ] = None,
    memory: Annotated[
        float, typer.Option("--memory", help="GiB for the data engine.")
    ] = MEMORY_GIB,
) -> None:
    """Measure a run on days it has not seen, beside baselines, with intervals.

    Example: skipwise evaluate run --from 2022-05-02 --to 2022-05-03
    """
    from skipwise.evaluation.evaluate import evaluate
    from skipwise.training.checkpoint import load_run

    check_choice("--mode", mode, MODES)
    trained = load_run(run)
    dataset = Dataset.open(data or Path(trained.description["dataset"]["path"]))
    learnt_from = trained.description["dataset"]["fingerprint"]
    if data is None and dataset.fingerprint != learnt_from:
        raise RunError(
            f"{dataset.path} has the fingerprint {dataset.fingerprint[:12]}, must be "
            f"{learnt_from[:12]}: it was prepared anew since the run was trained. Name it with "
            "--data if it is meant, or train again."
        )
    with data_engine(memory) as connection:
        card = evaluate(
            trained,
            dataset,
            connection,
            days=(day_from(from_day, "--from"), day_from(to_day, "--to")),
            mode=_mode(mode),
            weights=ScoreWeights() if weights is None else load_score_weights(weights),
            progress=ConsoleProgress(),
        )
    write_json(run / EVALUATION_FILE, card)
    if as_json is not None and str(as_json) == "-":
        sys.stdout.write((run / EVALUATION_FILE).read_text(encoding="utf-8"))
        return
    if as_json is not None:
        write_json(as_json, card)
    show_card(card)


def report_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A trained run.")],
    out: Annotated[Path | None, typer.Option("--out", help="File; else RUN/report.html.")] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Dataset; else the one it was trained on.")
    ] = None,
) -> None:
    """Write one HTML file that shows the data, the training and the figures.

    Example: skipwise report run
    """
    from skipwise.report.page import write_report

    typer.echo(write_report(run, out, dataset_path=data, progress=ConsoleProgress()))


def show_card(card: Mapping[str, Any]) -> None:
    """Print an evaluation's tables."""
    console = open_console()
    days = f"{card['days']['from']} to {card['days']['to']}, {card['mode']} mode"
    title = f"{card['rows']:,} events of {card['viewers']:,} viewers, {days}"
    for name, rows in (
        (title, scorecard_rows(card)),
        ("Watch time", watch_rows(card)),
        ("Slates ordered by the score, the log, chance", slate_rows(card)),
        (
            "Ahead of the baselines by, 95 % intervals (clear of zero: * ahead, ! behind)",
            comparison_rows(card["baselines"]),
        ),
        (
            f"Effective views found among {card['retrieval'].get('videos', 0):,} videos",
            retrieval_rows(card["retrieval"]),
        ),
    ):
        if len(rows) > 1:
            console.print(draw_table(name, [str(cell) for cell in rows[0]], rows[1:]))
    for name, reason in card["masked_objectives"].items():
        console.print(f"not learnt: {name} ({reason})")


def _mode(name: str) -> Mode:
    return next(mode for mode in MODES if mode == name)


def _say_size(size: str, num_events: int) -> None:
    """Explain what the preset `auto` chose."""
    from skipwise.training.settings import PRESETS

    chosen = PRESETS[size]
    own = "with" if chosen.ids else "without"
    shape = f"width {chosen.width}, history {chosen.history_length}"
    open_console(stderr=True).print(
        f"preset auto: {num_events:,} events with a time -> {size} ({shape}, {own} vectors for "
        "videos and authors)",
        highlight=False,
    )


def _show_pass(line: Mapping[str, Any]) -> None:
    """Say on stderr how a pass went, or what was chosen by measurement."""
    if "told" in line:
        open_console(stderr=True).print(line["told"], soft_wrap=True, highlight=False)
        return
    shown = ("glance", "long", "effective", "like")
    losses = line["validation"] or line["training"]
    what = "validation" if line["validation"] else "training"
    words = "  ".join(f"{name} {losses[name]:.4f}" for name in shown if name in losses)
    best = "  best so far" if line["validation"] and line["best_pass"] == line["passes"] else ""
    open_console(stderr=True).print(
        f"{line['phase']} pass {line['passes']}: {what} log-loss  {words}{best}",
        soft_wrap=True,
    )


def _drop_measured(out: Path) -> None:
    """Remove what was measured of the model that was replaced; tell."""
    from skipwise.report.page import REPORT_FILE

    dropped = [out / name for name in (EVALUATION_FILE, REPORT_FILE) if (out / name).is_file()]
    for file in dropped:
        file.unlink()
    if dropped:
        open_console(stderr=True).print(
            f"removed {' and '.join(map(str, dropped))}: of the model that was replaced",
            soft_wrap=True,
        )


def _show_run(out: Path) -> None:
    from skipwise.training.checkpoint import read_description

    description = read_description(out)
    window = description["window"]
    rows = [
        ("learnt from", f"{window['first_day']} to {window['last_day']}"),
        ("precision", description["precision"]),
        ("best number of passes", description["best_pass"]),
        ("parameters", description["num_parameters"]),
        ("objectives", ", ".join(description["objectives"])),
        *((f"not learnt: {name}", why) for name, why in description["masked_objectives"].items()),
    ]
    open_console().print(draw_table(f"{out}", ("what", "value"), rows))
