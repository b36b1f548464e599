"""What does the encoder attend to?

    Findings, Readings  ->  attention_section  ->  attention by feedback state, biases by pair

- Attention is set beside the share of such events in view: 1 means no more and no less than that.
- Pair biases are read off the weights, less the mean of their row: a constant in a row changes
  nothing.

Reads `readings` and the run's weights; is read by `page`.
"""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from skipwise.labels.feedback import Feedback, Group
from skipwise.model.encoder import HistoryEncoder
from skipwise.model.recommender import Recommender
from skipwise.report.blocks import Block, Chart, Section, Table, Words
from skipwise.report.cells import number_text, share_text
from skipwise.report.drawing import MUTED, OURS, SECOND, draw, heat_map
from skipwise.report.findings import Findings
from skipwise.report.readings import Attention, Readings

QUERY_NAMES = {2: ("as if watched (q+)", "as if skipped (q−)"), 1: ("as a candidate",)}  # noqa: RUF001
GROUP_NAMES = {
    Group.NEG: "glance or negative",
    Group.NEUTRAL: "neither",
    Group.POS: "effective or better",
}


def attention_section(findings: Findings, readings: Readings | None) -> Section:
    """Show attention by feedback.

    Args:
        findings: The run.
        readings: What the model said of the sample; None where there is no dataset.
    """
    blocks: list[Block] = []
    model = findings.run.model
    if not model.settings.inputs.use_feedback:
        text = "This run does not see how past events ended (model.inputs.use_feedback is off)."
        blocks.append(Words(role="caution", text=text))
    if readings is None:
        blocks.append(Words(role="missing", text=f"Attention: {findings.why_no_dataset}"))
    elif not readings.attention.num_candidates:
        text = "Attention: no event on the days looked at had a past to read."
        blocks.append(Words(role="missing", text=text))
    elif not readings.attention.by_state.any():
        text = f"Attention: a {model.settings.encoder.kind} encoder reads no past event."
        blocks.append(Words(role="missing", text=text))
    else:
        blocks.append(_by_state(readings.attention))
    blocks += _pairs(model)
    return Section(
        anchor="attention", title="What does the encoder attend to?", blocks=tuple(blocks)
    )


def attention_ratio(attention: Attention) -> NDArray[np.float64]:
    """Return attention on events of each state over their share in view.

        ratio_qf = (attention on state f / attention on any event) / (share of f in view)

    Returns:
        (Q, F); 1 = as much as their number; NaN where no event has the state.
    """
    on_events = attention.by_state / attention.by_state.sum(1, keepdims=True)
    in_view = attention.in_view / attention.in_view.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(in_view > 0, on_events / in_view, np.nan)


def _by_state(attention: Attention) -> Chart:
    ratio = attention_ratio(attention)
    states = [state for state in Feedback if attention.num_events[state]]
    names = QUERY_NAMES[len(ratio)]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for query, (name, colour, marker) in enumerate(
            zip(names, (OURS, SECOND), ("o", "s"), strict=False)
        ):
            offset = 0.14 * (2 * query - 1) if len(names) > 1 else 0.0
            for place, state in enumerate(states):
                at = place + offset
                axes.plot([1, ratio[query, state]], [at, at], color=colour, linewidth=1.3)
            shown = [ratio[query, state] for state in states]
            axes.plot(shown, np.arange(len(states)) + offset, marker, color=colour, label=name)
        axes.axvline(1, color=MUTED, linestyle=":", linewidth=1)
        axes.set_yticks(range(len(states)), [state.name.lower() for state in states])
        axes.set_ylim(len(states) - 0.5, -0.5)
        axes.set_xlim(min(0.8, axes.get_xlim()[0]), max(1.25, axes.get_xlim()[1]))
        axes.set_xlabel("attention over share in view (1 = as much as their number)")
        figure.legend(loc="outside upper left", ncols=2)

    no_past = "; ".join(
        f"{name} {share_text(float(share), attention.num_candidates)}"
        for name, share in zip(names, attention.no_past, strict=True)
    )
    return Chart(
        name="attention",
        title="Which past events does a candidate look at?",
        reading=f"Mean over {attention.num_candidates:,} candidates with a past, and over heads. "
        "Right of 1: such past events draw more attention than their number; left: less. A "
        "candidate asks twice, as if it were watched and as if it were skipped. The rest of the "
        f"attention rests on “no past”: {no_past}.",
        svg=draw("attention", "Attention by feedback state", (8, 1.1 + 0.42 * len(states)), paint),
        numbers=_state_table(attention, states, ratio),
    )


def _state_table(attention: Attention, states: list[Feedback], ratio: NDArray[np.float64]) -> Table:
    names = QUERY_NAMES[len(ratio)]
    total = attention.num_candidates
    return Table(
        caption="Attention by the past event's feedback state",
        head=(
            "state",
            "events seen",
            "share in view",
            *(f"attention, {name}" for name in names),
            *(f"ratio, {name}" for name in names),
        ),
        rows=tuple(
            (
                state.name.lower(),
                f"{attention.num_events[state]:,}",
                share_text(attention.in_view[state], total),
                *(share_text(by_state[state], total) for by_state in attention.by_state),
                *(number_text(row[state], 2) for row in ratio),
            )
            for state in states
        ),
    )


def _pairs(model: Recommender) -> list[Block]:
    aware = model.encoder.blocks if isinstance(model.encoder, HistoryEncoder) else ()
    blocks = [block for block in aware if block.pair_biases]
    if not blocks:
        text = (
            "This run's encoder has no pair biases to show (encoder.pair_biases or encode is off)."
        )
        return [Words(role="missing", text=text)]
    biases = [pair_bias(block.pair) for block in blocks]  # type: ignore[arg-type]
    order = list(GROUP_NAMES)
    names = [GROUP_NAMES[group] for group in order]

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, max(2, len(biases)), squeeze=False)[0]
        for number, axes in enumerate(panels):
            if number >= len(biases):
                axes.set_axis_off()
                continue
            heat_map(
                axes,
                biases[number].mean(-1)[np.ix_(order, order)].tolist(),
                names,
                names,
                strong_from=0.25,
            )
            axes.set_title(f"block {number + 1}, mean over heads")
            axes.set_xlabel("is read")
            axes.set_ylabel("reads")

    return [
        Chart(
            name="pair-biases",
            title="Which past events does a past event look at?",
            reading="The learned bias of attention for each pair of feedback groups, less the "
            "mean of its row: +0.1 means about 10 % more attention. It is one part of the "
            "attention; what the events are, when they were and how far apart are others.",
            svg=draw("pair-biases", "Attention bias by feedback pair", (8, 2.7), paint),
            numbers=_pair_table(biases, order),
        )
    ]


def pair_bias(pair: Tensor) -> NDArray[np.float64]:
    """Return (G, G, heads) biases B[g_i, g_j], less the mean over g_j."""
    values = np.asarray(pair.detach().double().numpy())
    centred: NDArray[np.float64] = values - values.mean(1, keepdims=True)
    return centred


def _pair_table(biases: list[NDArray[np.float64]], order: list[Group]) -> Table:
    return Table(
        caption="Bias by feedback pair and head",
        head=(
            "block and head",
            *(f"{i.name} reads {j.name}".lower() for i in order for j in order),
        ),
        rows=tuple(
            (
                f"block {number + 1}, head {head + 1}",
                *(number_text(float(bias[i, j, head]), 3) for i in order for j in order),
            )
            for number, bias in enumerate(biases)
            for head in range(bias.shape[-1])
        ),
    )
