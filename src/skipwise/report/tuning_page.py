"""What did a search for score weights find, on one page?

    Found, Trade  ->  write_tuning_page  ->  one HTML file, opens offline

Reads `evaluation.tuning` and the blocks of this folder; is read by the command line.
"""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from skipwise.evaluation.bootstrap import Interval
from skipwise.evaluation.tuning import OUTCOMES, Found, Trade
from skipwise.report.blocks import Cell, Chart, Row, Section, Table, Tone, Words
from skipwise.report.cells import number_text
from skipwise.report.drawing import FAINT, OURS, SECOND, draw
from skipwise.report.names import plain
from skipwise.report.render import render_page
from skipwise.settings import settings_to_dict
from skipwise.storage import replace_file

WORDS = {
    "glance": "skips per view",
    "watch_s": "watch time per view, s",
    "effective": "effective views per view",
    "negative": "explicit negatives per view",
}
SIMULATED_WORDS = {"glance": "skips per view", "watch_s": "watch time per slate, s"}


def verdict_words(found: Found, trade: Trade) -> str:
    """Say whether the choice can be trusted, by viewers it was not made for.

    "Better" asks that both are shown by their 95 % intervals: that what was to improve does, and
    that what was to be kept loses no more than is given. "Not kept" asks that one of them is shown
    to fail. All else is "Not sure", with what is not shown.
    """
    note = "Simulated viewers. " if found.simulated else ""
    return note + _verdict(found, trade)


def outcome_words(found: Found) -> Mapping[str, str]:
    """Say what each outcome is, with its unit."""
    return SIMULATED_WORDS if found.simulated else WORDS


def _verdict(found: Found, trade: Trade) -> str:
    named = outcome_words(found)
    change, kept = (found.judged[name]["difference"] for name in (trade.improve, trade.keep))
    if found.choice.weights == found.today.weights:
        return "Nothing that was tried beats today's weights for this trade."
    words = (
        f"{named[trade.improve]} {change_text(change)}, {named[trade.keep]} {change_text(kept)}, "
        "on viewers the choice was not made for."
    )
    least_gain, most_gain = _gain(change, trade.improve)
    if most_gain < 0:
        return f"Not kept: {words} It is clearly worse there: the search fitted its own half."
    given = trade.give * found.judged[trade.keep]["today"].value
    kept_name, unit = named[trade.keep].removesuffix(", s"), " s" * (trade.keep == "watch_s")
    allowed = f"{given:.2g}{unit} ({100 * trade.give:.3g} % of today's)"
    turns = "falls" if OUTCOMES[trade.keep] else "rises"
    at_worst, at_best = _gain(kept, trade.keep)
    if at_best < -given:
        by = f" by more than the {allowed} that may be given" if given else ""
        return f"Not kept: {words} It is shown that {kept_name} {turns}{by}."
    gained = "falls" if not OUTCOMES[trade.improve] else "rises"
    not_shown = [f"{named[trade.improve].removesuffix(', s')} {gained}"] * (least_gain <= 0)
    if at_worst < -given:
        by = f"by no more than {allowed}" if given else "not at all"
        not_shown.append(f"{kept_name} {turns} {by}")
    if not_shown:
        return f"Not sure: {words} Not shown: that {', nor that '.join(not_shown)}."
    return f"Better: {words} Prove it in an experiment before all viewers get it."


def _gain(difference: Interval, outcome: str) -> tuple[float, float]:
    """Return the bounds of a difference, turned so that more is better."""
    if OUTCOMES[outcome]:
        return difference.low, difference.high
    return -difference.high, -difference.low


_SHOWN = (
    "Slates are what was shown, ordered anew: that says how to order, not what a feed would show "
    "tomorrow."
)
_SIMULATED = (
    "Simulated viewers of one made-up world choose from what the real pipeline offers them on the "
    "day after its last: one model, the first slate of a visit, nothing learnt from it. It says "
    "what these would do, and nothing about people; of other worlds the intervals say nothing."
)


def write_tuning_page(path: Path, found: Found, trade: Trade, run: str) -> None:
    """Write the page.

    Raises:
        StorageError: The disk is full or the folder cannot be written.
    """
    section = Section(
        anchor="choice",
        title="What to change",
        blocks=(
            Words(text=verdict_words(found, trade)),
            _front(found, trade),
            _judged(found),
            _weights(found),
            Words(
                text=f"Searched on {found.slates['searched']:,} slates of half of the viewers, "
                f"judged on {found.slates['judged']:,} of the others; the first {trade.at} places "
                f"count. {_SIMULATED if found.simulated else _SHOWN}"
            ),
        ),
    )
    page = render_page(
        f"Skipwise score search: {plain(run)}",
        f"Score weights for the run “{plain(run)}”",
        [section],
    )
    with replace_file(path) as aside:
        aside.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n")


def _front(found: Found, trade: Trade) -> Chart:
    named = outcome_words(found)
    front = sorted((each for each in found.tried if each.on_front), key=lambda each: each.keep)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        tried = [each for each in found.tried if not each.on_front]
        axes.plot([e.keep for e in tried], [e.improve for e in tried], ".", color=FAINT)
        axes.plot([e.keep for e in front], [e.improve for e in front], "o-", color=OURS)
        axes.plot([found.today.keep], [found.today.improve], "s", color=SECOND, markersize=9)
        for name, each, beside in (
            ("today", found.today, (8, 8)),
            ("choice", found.choice, (8, -14)),
        ):
            at = (each.keep, each.improve)
            axes.annotate(name, at, xytext=beside, textcoords="offset points")
        axes.set_xlabel(named[trade.keep])
        axes.set_ylabel(named[trade.improve])

    rows: list[Row] = [(number_text(e.keep, 3), number_text(e.improve, 4)) for e in front]
    better = [
        f"{'more' if OUTCOMES[name] else 'less'} {named[name]} is better"
        for name in (trade.keep, trade.improve)
    ]
    return Chart(
        name="front",
        title="What can be had for what?",
        reading="Each dot is a set of weights, on the searched half. Linked: nothing tried is "
        "better in one without being worse in the other. Square: today's weights. Here "
        f"{better[0]} and {better[1]}.",
        svg=draw("front", "Pareto front of score weights", (7.0, 4.2), paint),
        numbers=Table(
            caption="The front", head=(named[trade.keep], named[trade.improve]), rows=tuple(rows)
        ),
    )


def _judged(found: Found) -> Table:
    rows: list[Row] = []
    for name, by in found.judged.items():
        change, tone = by["difference"], ""
        if change.low > 0 or change.high < 0:
            tone = "good" if (change.low > 0) == OUTCOMES[name] else "bad"
        said: Tone = "good" if tone == "good" else "bad" if tone == "bad" else ""
        rows.append(
            (
                outcome_words(found)[name],
                _figure(by["today"]),
                _figure(by["choice"]),
                Cell(text=number_text(change.value, 4), below=_bounds(change), tone=said),
            )
        )
    return Table(
        caption="On the viewers it was not made for (95 % over viewers)",
        head=("in the first places", "today", "choice", "choice less today"),
        rows=tuple(rows),
    )


def _weights(found: Found) -> Table:
    today, choice = (settings_to_dict(each.weights) for each in (found.today, found.choice))
    rows: list[Row] = []
    for name, value in choice.items():
        parts = value if isinstance(value, dict) else {"": value}
        for part, number in parts.items():
            before = today[name][part] if part else today[name]
            rows.append((f"{name}.{part}".rstrip("."), f"{before:.3g}", f"{number:.3g}"))
    return Table(
        caption="The weights", head=("weight", "today", "choice"), rows=tuple(rows), folded=True
    )


def _figure(found: Interval) -> Cell:
    return Cell(text=number_text(found.value, 4), below=_bounds(found))


def _bounds(found: Interval) -> str:
    return f"{number_text(found.low, 4)} to {number_text(found.high, 4)}"


def change_text(found: Interval) -> str:
    """Write a difference with its sign and interval; what rounds to 0 has a plus."""
    return f"{found.value:+z.4f} ({found.low:+z.4f} to {found.high:+z.4f})"
