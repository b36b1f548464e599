"""What does an experiment say, on one page?

    Analysis, Verdicts, Definition  ->  write_experiment_page  ->  one HTML file, opens offline

- The verdict stands first, in words; every effect has its interval and its metric's good side.
- Plots over time show the always-valid interval, which may be looked at daily, over the fixed one.

Reads `experiments` and the blocks of this folder; is read by the command line.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from skipwise.experiments.analysis import Analysis
from skipwise.experiments.definition import Definition, Guardrail
from skipwise.experiments.effects import Effect, metric_names
from skipwise.experiments.metrics import METRICS
from skipwise.experiments.verdict import RATIO_ALARM, Verdict, breach, holds
from skipwise.report.blocks import Block, Cell, Chart, Fact, Facts, Row, Section, Table, Tone, Words
from skipwise.report.cells import DASH, number_text
from skipwise.report.drawing import FAINT, INK, MUTED, OURS, SECOND, draw, small_multiples
from skipwise.report.names import plain
from skipwise.report.render import render_page
from skipwise.storage import replace_file


def write_experiment_page(
    path: Path,
    analysis: Analysis,
    verdicts: Sequence[Verdict],
    definition: Definition,
    *,
    simulated: bool,
) -> None:
    """Write the page of an experiment.

    Args:
        path: The file to write.
        analysis: What was found.
        verdicts: One per treatment.
        definition: The experiment.
        simulated: Whether the viewers were simulated; the page then says so at its head.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    name = plain(definition.name)
    sections = [
        _summary(analysis, verdicts, definition, simulated=simulated),
        _effects(analysis, definition),
        _over_time(analysis, definition),
        _by_segment(analysis, definition),
        _how(analysis, definition),
    ]
    kind = "simulated experiment" if simulated else "experiment"
    page = render_page(f"Skipwise {kind}: {name}", f"The {kind} “{name}”", sections)
    with replace_file(path) as aside:
        aside.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def _summary(
    analysis: Analysis, verdicts: Sequence[Verdict], definition: Definition, *, simulated: bool
) -> Section:
    words = [
        Words(
            text=each.words if len(verdicts) == 1 else f"{plain(each.treatment)}: {each.words}",
            role="caution"
            if each.decision in ("distrust", "stop", "stopped", "worse")
            else "plain",
        )
        for each in verdicts
    ]
    alarm = analysis.ratio_p_value < RATIO_ALARM
    facts = [
        Fact(
            name=f"viewers in {plain(variant.name)}",
            value=f"{analysis.viewers[variant.name]:,}",
            below=f"share {variant.share:.0%}" + _stopped_on(analysis, variant.name),
        )
        for variant in definition.variants
    ]
    facts += [
        Fact(name="days", value=f"{analysis.days} of {definition.days}"),
        Fact(
            name="sample ratio",
            value="ALARM" if alarm else "as planned",
            below=f"p = {analysis.ratio_p_value:.2g}, alarm below {RATIO_ALARM:g}",
        ),
    ]
    note = [
        Words(role="caution", text="Simulated viewers: this shows the method, not people's taste.")
    ]
    blocks: list[Block] = [*(note if simulated else []), *words, Facts(facts=tuple(facts))]
    return Section(anchor="verdict", title="Verdict", blocks=tuple(blocks))


def _guardrail_words(effect: Effect, rail: Guardrail) -> str:
    if breach(effect, rail):
        return "guardrail broken"
    tolerated = f"{rail.worse_by_at_most:.1%} worse"
    if holds(effect, rail):
        return f"guardrail holds: not {tolerated}"
    return f"guardrail open: up to {tolerated} is tolerated, neither more nor less is shown"


def _effects(analysis: Analysis, definition: Definition) -> Section:
    rails = {rail.name: rail for rail in definition.guardrails}
    rows: list[Row] = []
    for each in analysis.effects:
        metric = METRICS[each.metric]
        role = []
        if each.metric in rails:
            role = [_guardrail_words(each, rails[each.metric])]
        rows.append(
            (
                Cell(
                    text=metric.words,
                    below="\n".join([plain(each.treatment) + _judged_on(analysis, each), *role]),
                ),
                number_text(each.control_mean * metric.per, 4),
                number_text(each.treatment_mean * metric.per, 4),
                _effect_cell(each, definition.alpha, stopped=each.treatment in analysis.stopped),
                _percent_range(*each.always_relative),
                _p_text(each.p_value),
                _p_text(each.p_adjusted),
            )
        )
    head = (
        "metric",
        plain(definition.control),
        "treatment",
        "effect (fixed interval)",
        "always-valid interval",
        "p",
        "p, corrected",
    )
    caption = "Every metric at the last day" + (", or the stop" if analysis.stopped else "")
    table = Table(caption=caption, head=head, rows=tuple(rows))
    note = Words(
        text="A stopped variant is judged by its viewers and control's until the stop: who was "
        "exposed and what was shown before it. Of the intervals the always-valid one holds, for "
        "the data decided when it was looked at; a p-value would not."
    )
    return Section(
        anchor="effects",
        title="What did the treatment change?",
        blocks=(_forest(analysis.effects), table, *([note] if analysis.stopped else [])),
    )


def _stopped_on(analysis: Analysis, variant: str) -> str:
    stop = analysis.stopped.get(variant)
    return "" if stop is None else f", stopped on day {stop.day + 1}"


def _judged_on(analysis: Analysis, each: Effect) -> str:
    stop = analysis.stopped.get(each.treatment)
    return "" if stop is None else f"\nstopped on day {stop.day + 1}, judged on {stop.judged_on}"


def _forest(effects: Sequence[Effect]) -> Chart:
    names = [f"{METRICS[each.metric].words} [{plain(each.treatment, 20)}]" for each in effects]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for place, each in enumerate(effects):
            low, high = each.always_relative
            axes.plot([100 * low, 100 * high], [place, place], color=FAINT, linewidth=5)
            bounds = [100 * each.relative_low, 100 * each.relative_high]
            axes.plot(bounds, [place, place], color=OURS, linewidth=2)
            axes.plot([100 * each.relative], [place], "o", color=OURS)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("effect, % of control")

    return Chart(
        name="effects",
        title="How large are the effects, and how sure?",
        reading="Dot: effect relative to control. Thin bar: the fixed interval, for one look at "
        "the planned end. Broad bar: the always-valid interval. An effect is clear where the bar "
        "that may be used does not touch zero. Which side is good depends on the metric.",
        svg=draw("effects", "Effects with intervals", (8.5, 0.8 + 0.34 * len(names)), paint),
    )


def _over_time(analysis: Analysis, definition: Definition) -> Section:
    charts = [
        _paths(analysis, definition, treatment, number)
        for number, treatment in enumerate(definition.treatments)
    ]
    return Section(anchor="time", title="How did it come about?", blocks=tuple(charts))


def _paths(analysis: Analysis, definition: Definition, treatment: str, number: int) -> Chart:
    names = metric_names(definition)
    rails = {rail.name: rail.worse_by_at_most for rail in definition.guardrails}
    looks = {
        name: [
            look for look in analysis.looks if look.metric == name and look.treatment == treatment
        ]
        for name in names
    }

    def paint(figure: Figure) -> None:
        for axes, name in zip(small_multiples(figure, len(names), 2), names, strict=True):
            _path(axes, looks[name])
            if name in rails:
                side = 1 if METRICS[name].better == "down" else -1
                axes.axhline(100 * side * rails[name], color=SECOND, linewidth=1, linestyle="--")
            axes.set_title(METRICS[name].words)
            axes.set_xlim(0.5, max(definition.days, analysis.days) + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    rows = len(names) + 1 >> 1
    return Chart(
        name=f"time-{number}",
        title=f"Effect of {plain(treatment)} as days pass, % of control",
        reading="Light band: always-valid interval, made to be looked at every day. Dark band: "
        "fixed interval, right at the planned end only. Dashed: what a guardrail tolerates; the "
        "experiment is stopped when the whole light band lies beyond it.",
        svg=draw(f"time-{number}", "Effects over time", (8.5, 0.4 + 2.1 * rows), paint),
    )


def _path(axes: Axes, looks: Sequence[Effect]) -> None:
    days = [look.day + 1 for look in looks]

    def band(bounds: Callable[[Effect], tuple[float, float]], alpha: float) -> None:
        low, high = zip(*(bounds(look) for look in looks), strict=True) if looks else ((), ())
        percent_low, percent_high = [100 * x for x in low], [100 * x for x in high]
        axes.fill_between(days, percent_low, percent_high, color=OURS, alpha=alpha)

    band(lambda look: look.always_relative, 0.15)
    band(lambda look: (look.relative_low, look.relative_high), 0.3)
    axes.plot(days, [100 * look.relative for look in looks], color=INK, marker=".")
    axes.axhline(0, color=MUTED, linewidth=1)


def _by_segment(analysis: Analysis, definition: Definition) -> Section:
    rows: list[Row] = []
    words = []
    for treatment, found in analysis.segments.items():
        for part in found:
            stopped = treatment in analysis.stopped
            effect = (
                DASH
                if part.effect is None
                else _effect_cell(part.effect, definition.alpha, stopped=stopped)
            )
            rows.append((f"{part.segment} [{plain(treatment)}]", f"{part.viewers:,}", effect))
        p = analysis.heterogeneity_p_value[treatment]
        said = (
            f"The effects differ between the groups (p = {p:.2g})."
            if p < definition.alpha
            else f"No difference between the groups is shown (p = {_p_text(p)})."
        )
        words.append(Words(text=f"{plain(treatment)}: {said}"))
    first = METRICS[definition.metrics[0].name].words
    note = Words(
        text="New: no event in the log before the start. Heavy: more views before it than the "
        "median of the others; light: the rest. A dash: too few viewers, or nothing varies."
    )
    table = Table(
        caption=f"Effect on {first}", head=("viewers", "number", "effect"), rows=tuple(rows)
    )
    return Section(
        anchor="segments", title="Is it the same for everyone?", blocks=(table, *words, note)
    )


def _how(analysis: Analysis, definition: Definition) -> Section:
    corrections = {
        "fwer": "Hochberg's step-up, over all metrics and treatments",
        "fdr": "Benjamini and Hochberg's step-up, over all metrics and treatments",
        "none": "none",
    }
    rows: list[Row] = [
        (
            METRICS[each.metric].words,
            f"{each.minimum_effect:.1%}",
            f"{each.detectable:.1%}",
            f"{each.viewers_needed:,}",
        )
        for each in analysis.plans
    ]
    power = f"{definition.power:.0%}"
    table = Table(
        caption=f"What can be found with a chance of {power}, control against one treatment",
        head=("metric", "effect asked for", "effect that can be found", "viewers needed for it"),
        rows=tuple(rows),
    )
    text = (
        f"Started {definition.start}, planned for {definition.days} days, alpha = "
        f"{definition.alpha:g}. Viewers are assigned by a salted hash and count from their first "
        "exposure on. Rates are ratios of sums over viewers; errors are those of viewers (delta "
        f"method); {definition.covariate_days} days before the start take variance out (CUPED). "
        f"Correction of p-values: {corrections[definition.correction]}; guardrails are alarms and "
        "are not corrected. Fixed intervals: tea-tasting. Always-valid intervals, at a level "
        "shared out over metrics and treatments where p-values are corrected: asymptotic "
        "confidence sequence (Waudby-Smith and others, arXiv 2103.06476), narrowest at the "
        "planned end."
    )
    return Section(anchor="how", title="How sure could it be?", blocks=(table, Words(text=text)))


def _effect_cell(each: Effect, alpha: float, *, stopped: bool) -> Cell:
    tone: Tone = ""
    words = _percent_range(each.relative_low, each.relative_high)
    p = each.p_value if math.isnan(each.p_adjusted) else each.p_adjusted
    if (each.always_low > 0 or each.always_high < 0) if stopped else p < alpha:
        up = each.effect > 0
        tone = "good" if up == (METRICS[each.metric].better == "up") else "bad"
        words += "\nbetter" if tone == "good" else "\nworse"
    return Cell(text=_percent(each.relative), below=words, tone=tone)


def _percent(value: float) -> str:
    if math.isnan(value):
        return DASH
    return f"{100 * value:+.2f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def _percent_range(low: float, high: float) -> str:
    return f"{_percent(low)} to {_percent(high)}"


def _p_text(p: float) -> str:
    return DASH if math.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.4f}"
