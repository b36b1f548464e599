"""Commands about logs: make one, look at one, turn one into a dataset.

    skipwise simulate OUT    skipwise inspect PATH    skipwise prepare PATH --out DATASET

Is read by `main` and `demo`.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from ibis.backends import BaseBackend

from skipwise.cli.arguments import MEMORY_GIB, data_engine, settings_from
from skipwise.cli.console import ConsoleProgress, draw_bars, draw_table, open_console
from skipwise.cli.replacing import DATASET, WORLD, ReplaceOption, check_out
from skipwise.engine import ENGINES, open_spark
from skipwise.errors import SettingError
from skipwise.events.read import EventLog, ReadSettings, read_log
from skipwise.events.summary import HISTOGRAM_EDGES_S, LogSummary, summarise
from skipwise.events.transfer import move_log
from skipwise.features.dataset import Dataset
from skipwise.features.prepare import PrepareSettings, prepare, settings_of
from skipwise.features.rebuild import rebuild
from skipwise.settings import check_choice
from skipwise.simulation.log import simulate
from skipwise.simulation.world import WorldSettings
from skipwise.storage import write_json

LogPath = Annotated[Path, typer.Argument(metavar="PATH", help="Folder or file of the log.")]
SourceOption = Annotated[
    str | None,
    typer.Option("--source", help="kuairand or skipwise; recognised by itself when left out."),
]
MappingOption = Annotated[
    Path | None,
    typer.Option("--mapping", help="TOML file that says which column is what (docs/data.md)."),
]
MemoryOption = Annotated[float, typer.Option("--memory", help="GiB the data engine may take.")]
ThreadsOption = Annotated[int, typer.Option("--threads", help="CPU threads; 0 = all.")]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InspectSettings:
    """How a log is looked at: the keys that `prepare` has too."""

    read: ReadSettings = dataclasses.field(default_factory=ReadSettings)


def simulate_command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    viewers: Annotated[int, typer.Option(help="How many viewers.")] = 2000,
    days: Annotated[int, typer.Option(help="How many days.")] = 8,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    truth: Annotated[
        bool, typer.Option(help="Write what no log tells (truth.parquet), thrice its size.")
    ] = True,
    fit: Annotated[
        Path | None,
        typer.Option("--fit", help="A real log whose habits the viewers get; viewers, days by it."),
    ] = None,
    replace: ReplaceOption = False,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Other settings.")
    ] = None,
) -> None:
    """Make a small world of viewers whose tastes are known.

    Example: skipwise simulate world --viewers 500 --days 8 --seed 1
    """
    start = settings_from(WorldSettings(viewers=viewers, days=days, seed=seed), config, overrides)
    check_out(out, WORLD, replace=replace)
    if fit is not None:
        _simulate_like(fit, out, start, truth=truth)
        return
    simulate(out, start, ConsoleProgress(), truth=truth)
    open_console().print(
        f"{out}: {start.viewers:,} simulated viewers, {start.days} days, seed {start.seed}."
    )


def _simulate_like(path: Path, out: Path, start: WorldSettings, *, truth: bool) -> None:
    """Fit a world to a log's first days, check it on the last ones, and write both."""
    from skipwise.report.fit_page import fit_words, write_fit_page
    from skipwise.simulation.fit import compare, fit_world, measured, split_days
    from skipwise.simulation.log_facts import facts_of

    progress, console = ConsoleProgress(), open_console()
    with data_engine() as connection:
        events, fitted_on, held_out_days = split_days(read_log(path, connection, progress=progress))
    fitted = facts_of(events, fitted_on)
    held_out = facts_of(events, held_out_days, fitted.surfaces)
    world = fit_world(fitted, start, progress)
    simulate(out, world, progress, truth=truth)
    like = measured(world, fitted.surfaces)
    distances = compare(fitted, held_out, like)
    write_fit_page(out / "fit.html", held_out, like, distances)
    found = {each.name: dataclasses.asdict(each) | {"fits": each.fits} for each in distances}
    write_json(out / "fit.json", {"distances": found, "world": dataclasses.asdict(world)})
    rows = [
        (each.name, f"{each.simulated:.3f}", f"{each.own:.3f}", "" if each.fits else "does not fit")
        for each in distances
    ]
    head = ("distribution", "world to held-out days", "log's own days apart", "")
    console.print(draw_table("Largest gap between distribution functions", head, rows))
    console.print(fit_words(distances), soft_wrap=True)
    console.print(f"{out}: {world.viewers:,} simulated viewers; {out / 'fit.html'}: plots.")


def inspect_command(
    path: LogPath,
    source: SourceOption = None,
    mapping: MappingOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    memory: MemoryOption = MEMORY_GIB,
    threads: ThreadsOption = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Settings, as in read.refused_share_at_most=0.05."
        ),
    ] = None,
) -> None:
    """Show what is in a log: a table and a plot.

    Example: skipwise inspect KuaiRand-Pure
    """
    settings = settings_from(InspectSettings(), None, overrides)
    with data_engine(memory, threads) as connection:
        log = read_log(
            path,
            connection,
            source=source,
            mapping=mapping,
            settings=settings.read,
            progress=ConsoleProgress(),
        )
        summary = summarise(log, connection)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(summary), default=str, indent=1))
    else:
        show_summary(summary)


def prepare_command(
    path: LogPath,
    out: Annotated[Path, typer.Option("--out", help="DATASET folder to write.")],
    source: SourceOption = None,
    mapping: MappingOption = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    memory: MemoryOption = MEMORY_GIB,
    threads: ThreadsOption = 0,
    engine: Annotated[
        str, typer.Option("--engine", help="duckdb, or spark on a cluster (docs/data-at-scale.md).")
    ] = "duckdb",
    master: Annotated[
        str, typer.Option("--master", help="Of Spark: local[2], spark://HOST:7077, yarn, ...")
    ] = "local[*]",
    spark: Annotated[
        list[str] | None,
        typer.Option("--spark", help="A setting of Spark's own, KEY=VALUE; may be repeated."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option("--only", help="Rebuild this one file of DATASET, as in events.arrow."),
    ] = None,
    replace: ReplaceOption = False,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", help="Folder that this machine and the executors share."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings, as in counters.half_life_days=3."),
    ] = None,
) -> None:
    """Turn a log into a dataset: labels, counters, histories.

    Example: skipwise prepare KuaiRand-Pure --out dataset
    """
    given = settings_from(PrepareSettings(), config, overrides)
    check_choice("--engine", engine, ENGINES)
    if only is None:
        check_out(out, DATASET, replace=replace)
    elif replace:
        raise SettingError(
            "--replace is said beside --only; it must not be, for --only rebuilds one file of a "
            "dataset that stays. Leave one of them out."
        )
    progress = ConsoleProgress()
    with ExitStack() as stack:
        cluster = None
        if engine == "spark":  # before the log is read, so that what is amiss is told at once
            shared = stack.enter_context(_scratch_folder(scratch))
            settings_of_spark = _spark_settings(spark)
            cluster = stack.enter_context(open_spark(master, f"{shared}/steps", settings_of_spark))
        connection = stack.enter_context(data_engine(memory, threads))
        log = read_log(
            path,
            connection,
            source=source,
            mapping=mapping,
            settings=given.read,
            progress=progress,
        )
        settings = settings_from(settings_of(log.description), config, overrides)
        place: BaseBackend = connection
        if cluster is not None:
            log, place = move_log(log, connection, cluster, shared), cluster
        if only is None:
            prepare(log, place, out, settings, progress)
        else:
            rebuild(log, place, out, only, settings, progress)
    show_dataset(Dataset.open(out), log)


@contextmanager
def _scratch_folder(scratch: Path | None) -> Iterator[Path]:
    if scratch is not None and not scratch.is_dir():
        raise SettingError(
            f"--scratch {scratch} is not a folder; it must be one that this machine and the "
            "executors share. Make it, or choose another."
        )
    with TemporaryDirectory(prefix="skipwise-", dir=scratch) as folder:
        Path(folder).chmod(0o777)  # executors may run as somebody else
        yield Path(folder)


def _spark_settings(words: list[str] | None) -> dict[str, str]:
    settings = {}
    for word in words or []:
        name, sign, value = word.partition("=")
        if not sign:
            raise SettingError(
                f"--spark {word} is not a setting; it must read KEY=VALUE, as in "
                "spark.executor.memory=8g."
            )
        settings[name] = value
    return settings


def show_summary(summary: LogSummary) -> None:
    """Print a log's summary."""
    console = open_console()
    console.print(
        draw_table(f"{summary.source}: what is in this log", ("what", "value"), _facts(summary))
    )
    surfaces = [
        (surface.surface, surface.num_rows, _percent(surface.share_short))
        for surface in summary.surfaces[:8]
    ]
    if surfaces:
        console.print(
            draw_table(
                "Surfaces, most frequent first", ("surface", "events", "under 3 s"), surfaces
            )
        )
    edges = [f"{edge:.2g}" if edge < 10 else f"{edge:.0f}" for edge in HISTOGRAM_EDGES_S]
    bins = [f"{low}-{high} s" for low, high in itertools.pairwise(edges)]
    labels = [*bins, f"{edges[-1]} s and more"]
    longest = max((at for at, count in enumerate(summary.watch_histogram) if count), default=0)
    counts = summary.watch_histogram[: longest + 1]  # bars of nothing beyond it say nothing
    title = "How long people watch (events)"
    console.print(draw_bars(title, labels[: len(counts)], counts))
    _show_oddities(summary)


def show_dataset(dataset: Dataset, log: EventLog) -> None:
    """Print what was prepared, and what was refused or noticed on the way."""
    console, description = open_console(), dataset.description
    rows: list[tuple[str, Any]] = [
        ("events", description["num_events"]),
        ("of them with a time", description["num_timed_events"]),
        ("viewers", description["num_viewers"]),
        ("videos", description["num_videos"]),
        ("days", f"{description['first_day']} to {description['last_day']}"),
    ]
    console.print(draw_table(f"{dataset.path}", ("what", "value"), rows))
    labels = [
        (name, counts["known"], counts["positive"], _percent(counts["positive"] / counts["known"]))
        for name, counts in description["labels"].items()
        if counts["known"]
    ]
    console.print(draw_table("Labels", ("label", "known", "positive", "share"), labels))
    unknown = [name for name, counts in description["labels"].items() if not counts["known"]]
    if unknown:
        console.print(
            f"The log tells nothing of {', '.join(unknown)}: not known in any row, not learnt.",
            highlight=False,
        )
    if not dataset.label_config.glance_needs_duration:
        console.print(
            "A watch of a video of unknown length counts as no glance, as in published figures; "
            "labels.glance_needs_duration=true leaves it out.",
            highlight=False,
        )
    _show_oddities(log)


def _facts(summary: LogSummary) -> list[tuple[str, Any]]:
    median = summary.watch_quantiles_s.get(0.5)
    return [
        ("events", summary.num_rows),
        ("of them without a time", summary.num_untimed),
        ("viewers", summary.num_viewers),
        ("videos shown", summary.num_videos),
        ("videos listed", summary.num_listed_videos),
        ("authors", summary.num_authors),
        ("topics", summary.num_topics),
        ("days", f"{summary.first_day} to {summary.last_day} ({summary.time_zone})"),
        ("events per viewer, median", summary.rows_per_viewer.get(0.5)),
        ("watched under 3 s", _percent(summary.share_short)),
        ("median watch, s", None if median is None else round(median, 1)),
        ("duration known", _percent(summary.known_duration_share)),
        *((name, _percent(share)) for name, share in summary.flag_shares.items()),
    ]


def _show_oddities(found: LogSummary | EventLog) -> None:
    console = open_console()
    if found.notes:
        rows = [(note.what, note.count) for note in found.notes]
        console.print(draw_table("Noticed and handled", ("what", "rows"), rows))
    if found.refusals:
        refused = [
            (refusal.reason, refusal.count, f"{refusal.file}:{refusal.line}", refusal.example)
            for refusal in found.refusals
        ]
        console.print(draw_table("Refused", ("reason", "rows", "first", "value"), refused))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.2f} %"
