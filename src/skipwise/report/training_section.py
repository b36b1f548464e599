"""How was the run trained?

    run.json, progress.jsonl  ->  training_section  ->  window, settings, learning curves

- Validation is drawn over the passes of the search, where it was measured; refitting has none.

Reads `training`; is read by `page`.
"""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from skipwise.report.blocks import Block, Chart, Fact, Facts, Section, Table, Words
from skipwise.report.cells import DASH, number_text
from skipwise.report.drawing import MUTED, OURS, SECOND, draw, small_multiples
from skipwise.report.findings import Findings
from skipwise.settings import settings_to_dict
from skipwise.training.settings import PRESETS, preset


def training_section(findings: Findings) -> Section:
    """Show the window, the settings and the learning curves."""
    description = findings.run.description
    blocks: list[Block] = [_facts(description), _objectives(description)]
    blocks += _learning(findings)
    blocks += [_settings(description), _versions(description)]
    return Section(anchor="training", title="How the run was trained", blocks=tuple(blocks))


def nearest_preset(settings: Mapping[str, Any]) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """Find the preset that a run's settings differ least from.

    Args:
        settings: Nested values, as in `run.json`.

    Returns:
        Its name, and by dotted key what the run has and what the preset has.
    """
    mine = flatten(settings)
    found = {}
    for name in PRESETS:
        theirs = flatten(settings_to_dict(preset(name)))
        keys = [key for key in mine if mine[key] != theirs.get(key)]
        found[name] = {key: (mine[key], theirs.get(key)) for key in keys}
    nearest = min(found, key=lambda name: len(found[name]))
    return nearest, found[nearest]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested settings with dotted keys.

    >>> flatten({"model": {"width": 16}, "seed": 1})
    {'model.width': 16, 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _facts(description: Mapping[str, Any]) -> Facts:
    window = description["window"]
    return Facts(
        facts=(
            Fact(
                name="Learnt from",
                value=f"{window['first_day']} to {window['last_day']}",
                below=f"the days from {window['validation_from']} on chose when to stop"
                + (", and were then learnt from" if window["refit"] else ""),
            ),
            Fact(name="Best pass", value=f"{description['best_pass']}"),
            Fact(name="Precision", value=description["precision"], below="of products in training"),
            Fact(name="Parameters", value=f"{description['num_parameters']:,}"),
            Fact(
                name="Videos it knows",
                value=f"{description['vocabulary_sizes']['videos'] - 2:,}",
                below=f"and {description['vocabulary_sizes']['authors'] - 2:,} authors",
            ),
            Fact(name="Time", value=f"{description['seconds']:,.0f} s"),
        )
    )


def _objectives(description: Mapping[str, Any]) -> Block:
    learnt = ", ".join(description["objectives"])
    masked = description["masked_objectives"]
    if not masked:
        return Words(text=f"Objectives learnt: {learnt}. None was masked.")
    return Table(
        caption=f"Objectives learnt: {learnt}. Not learnt:",
        head=("objective", "why not"),
        rows=tuple((name, str(why)) for name, why in masked.items()),
    )


def _learning(findings: Findings) -> list[Block]:
    search = [line for line in findings.passes if line.get("phase") == "search"]
    names = [name for name in search[-1]["training"] if name != "pairwise"] if search else []
    if not names:
        text = "No learning curves: the run has no progress.jsonl, or it holds no pass."
        return [Words(role="missing", text=text)]
    best = int(findings.run.description["best_pass"])
    passes = [int(line["passes"]) for line in search]

    def paint(figure: Figure) -> None:
        for place, (axes, name) in enumerate(
            zip(small_multiples(figure, len(names)), names, strict=True)
        ):
            _curve(axes, passes, [line["training"].get(name) for line in search], "training")
            _curve(axes, passes, [line["validation"].get(name) for line in search], "validation")
            axes.axvline(best, color=MUTED, linestyle=":", linewidth=1.2, label="best pass")
            axes.set_title(name)
            axes.set_xlabel("pass over the training days")
            axes.set_ylabel("loss, nats per event" if place % 3 == 0 else "")
            axes.set_xticks(passes[:: max(1, len(passes) // 6)])
            axes.margins(y=0.2)
        handles, words = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper left", ncols=3)

    chart = Chart(
        name="learning",
        title="Did it go on learning, and when was it best?",
        reading="Loss of each objective after each pass, on the days learnt from and on the days "
        f"held out; the dotted line is pass {best}, the best on the days held out. The training "
        "loss is a mean over the pass, with dropout, so it may lie above the other. "
        + (
            "After the search the run was trained anew on all days for that many passes."
            if findings.run.description["window"]["refit"]
            else ""
        ),
        svg=draw("learning", "Loss by pass", (8, 0.5 + 1.75 * -(-len(names) // 3)), paint),
        numbers=_passes_table(findings, names),
    )
    return [chart]


def _curve(axes: Any, passes: list[int], losses: list[float | None], what: str) -> None:
    known = [
        (number, loss) for number, loss in zip(passes, losses, strict=True) if loss is not None
    ]
    if not known:
        return
    style = {"training": (SECOND, "--", "s"), "validation": (OURS, "-", "o")}[what]
    axes.plot(
        *zip(*known, strict=True),
        color=style[0],
        linestyle=style[1],
        marker=style[2],
        markersize=3.5,
        label=what,
    )


def _passes_table(findings: Findings, names: list[str]) -> Table:
    rows = tuple(
        (
            f"{line['phase']} {line['passes']}"
            + (
                " (best)"
                if line["phase"] == "search"
                and line["passes"] == findings.run.description["best_pass"]
                else ""
            ),
            what,
            *(number_text(line[what].get(name), 4) for name in names),
        )
        for line in findings.passes
        for what in ("training", "validation")
        if line[what]
    )
    return Table(caption="Loss by pass, nats per event", head=("pass", "rows", *names), rows=rows)


def _settings(description: Mapping[str, Any]) -> Table:
    name, changed = nearest_preset(description["settings"])
    number = len(changed)
    return Table(
        caption=f"Settings: preset {name}"
        + (f", {number} changed (marked ✱)" if number else ", unchanged"),
        head=("setting", "value", "in the preset"),
        rows=tuple(
            (
                f"{key} ✱" if key in changed else key,
                str(value),
                str(changed[key][1]) if key in changed else "the same",
            )
            for key, value in flatten(description["settings"]).items()
        ),
        folded=True,
    )


def _versions(description: Mapping[str, Any]) -> Table:
    return Table(
        caption="Versions and identity",
        head=("what", "which"),
        rows=(
            *((name, str(version)) for name, version in description["versions"].items()),
            ("dataset fingerprint", str(description["dataset"]["fingerprint"])),
            ("dataset path", str(description["dataset"]["path"]) or DASH),
            *(
                (f"checksum of {name}", str(sum_))
                for name, sum_ in description["checksums"].items()
            ),
        ),
        folded=True,
    )
