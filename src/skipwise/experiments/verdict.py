"""What should be done now, in words?

    Analysis, Definition  ->  judge  ->  Verdict

- A broken assignment comes first: nothing else can be believed then.
- A guardrail stops an experiment only when the whole always-valid interval lies beyond what it
  tolerates: so it may be asked every day.
- Before the planned end only the always-valid interval speaks.
- Of a stopped treatment the always-valid interval as of its stop speaks, then and ever after.
- What cannot be judged yet is named, and keeps nobody from judging the rest.

Reads `analysis` and `definition`; is read by the report and the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from skipwise.experiments.analysis import Analysis, Stopped, unjudged
from skipwise.experiments.definition import Definition, Guardrail
from skipwise.experiments.effects import Effect
from skipwise.experiments.metrics import METRICS

RATIO_ALARM = 0.001
"""A sample ratio less likely than this by chance is an alarm; looked at daily, so strict."""

Decision = Literal[
    "distrust", "stop", "stopped", "keep running", "better", "worse", "no difference shown"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What an experiment says of one treatment."""

    treatment: str
    decision: Decision
    words: str
    guardrail: str = ""
    """The metric it stops by; empty where it does not."""


def judge(analysis: Analysis, definition: Definition) -> list[Verdict]:
    """Judge every treatment."""
    return [_judge_one(analysis, definition, name) for name in definition.treatments]


def breach(effect: Effect, rail: Guardrail) -> bool:
    """Whether a metric is worse by more than a guardrail tolerates, at every look's level."""
    low, high = effect.always_relative
    if METRICS[rail.name].better == "down":
        return low > rail.worse_by_at_most
    return high < -rail.worse_by_at_most


def holds(effect: Effect, rail: Guardrail) -> bool:
    """Whether a metric is shown to be worse by no more than a guardrail tolerates, at every look.

    Neither this nor `breach` while the always-valid interval reaches past what is tolerated.
    """
    low, high = effect.always_relative
    if METRICS[rail.name].better == "down":
        return high <= rail.worse_by_at_most
    return low >= -rail.worse_by_at_most


def _judge_one(analysis: Analysis, definition: Definition, treatment: str) -> Verdict:
    left_out = unjudged(analysis.effects, definition, treatment)

    def verdict(decision: Decision, words: str, guardrail: str = "") -> Verdict:
        return Verdict(
            treatment=treatment,
            decision=decision,
            words=words + _not_judged(left_out),
            guardrail=guardrail,
        )

    if analysis.ratio_p_value < RATIO_ALARM:
        return verdict(
            "distrust",
            f"Do not trust this experiment: so uneven numbers of viewers come about by chance with "
            f"p = {analysis.ratio_p_value:.2g}. Something loses viewers of one variant; find it, "
            "then start anew under another name.",
        )
    own = {each.metric: each for each in analysis.effects if each.treatment == treatment}
    if treatment in analysis.stopped:
        stop = analysis.stopped[treatment]
        return verdict("stopped", _words_of_stop(stop, own, definition), stop.guardrail)
    for rail in definition.guardrails:
        if rail.name in own and breach(own[rail.name], rail):
            words = f"Stop: {METRICS[rail.name].words} {_broken(own[rail.name], rail)}."
            return verdict("stop", words, rail.name)
    decision, words = _judge_first(own, analysis, definition)
    return verdict(decision, words + (_open_rails(own, definition) if decision == "better" else ""))


def _judge_first(
    own: Mapping[str, Effect], analysis: Analysis, definition: Definition
) -> tuple[Decision, str]:
    """Judge a treatment by the metric that the experiment is about."""
    name = definition.metrics[0].name
    if name not in own:
        return "keep running", f"Keep running: it is day {analysis.days} of {definition.days}."
    first = own[name]
    if analysis.days < definition.days:
        return _judge_early(first, analysis, definition)
    if first.p_adjusted < definition.alpha:
        decision: Decision = _side(first)
        words = f"{METRICS[name].words}: {first.treatment} is {decision} than control by "
        return decision, words + _words_of(first) + "."
    plan = analysis.plans[0]
    return (
        "no difference shown",
        f"No difference in {METRICS[name].words} is shown: {_words_of(first)}. An effect "
        f"of {plan.detectable:.1%} would have been found with a chance of {definition.power:.0%}; "
        "smaller ones may be there.",
    )


def _judge_early(first: Effect, analysis: Analysis, definition: Definition) -> tuple[Decision, str]:
    clear = first.always_low > 0 or first.always_high < 0
    day = f"day {analysis.days} of {definition.days}"
    name = METRICS[first.metric].words
    if clear:
        decision: Decision = _side(first)
        words = (
            f"Already clear on {day}, however often it is looked at: {name} of {first.treatment} "
            f"is {decision} than control's by {_words_of(first, always=True)}. It may be stopped."
        )
        return decision, words
    words = f"Keep running: on {day} {name} is not clear yet: {_words_of(first, always=True)}."
    return "keep running", words


def _words_of_stop(stop: Stopped, own: Mapping[str, Effect], definition: Definition) -> str:
    """Tell when a treatment was stopped, and what is known as of then."""
    by = f" by guardrail {stop.guardrail}" if stop.guardrail else f" ({stop.why})"
    words = f"Stopped on day {stop.day + 1} of {definition.days}{by}; judged on {stop.judged_on}"
    words += " up to the stop, control too."
    rails = {rail.name: rail for rail in definition.guardrails}
    told = ""
    for name in dict.fromkeys((stop.guardrail, definition.metrics[0].name)):
        if name in rails and name in own and breach(own[name], rails[name]):
            told += f" {METRICS[name].words} {_broken(own[name], rails[name])}."
        elif name in own:
            told += f" {METRICS[name].words}: {_words_of(own[name], always=True)}."
    return words + (told or " Too few viewers, or nothing that varies, to say more.")


def _broken(effect: Effect, rail: Guardrail) -> str:
    tolerated = f"is worse by more than the tolerated {rail.worse_by_at_most:.1%}"
    return f"{tolerated}: {_words_of(effect, always=True)}"


def _open_rails(own: Mapping[str, Effect], definition: Definition) -> str:
    """Name the guardrails that nothing says are kept: what is better may still break them."""
    told = ", ".join(
        f"{METRICS[rail.name].words} (tolerated {rail.worse_by_at_most:.1%})"
        for rail in definition.guardrails
        if rail.name in own and not holds(own[rail.name], rail)
    )
    return f" Not broken, but not shown to hold either: {told}." if told else ""


def _not_judged(names: Sequence[str]) -> str:
    if not names:
        return ""
    told = ", ".join(METRICS[name].words for name in names)
    return (
        f" Not judged yet: {told}; it is the same for every viewer of a variant, or there is "
        "nothing to divide by."
    )


def _side(effect: Effect) -> Literal["better", "worse"]:
    up = effect.effect > 0
    return "better" if up == (METRICS[effect.metric].better == "up") else "worse"


def _words_of(effect: Effect, *, always: bool = False) -> str:
    low, high = effect.always_relative if always else (effect.relative_low, effect.relative_high)
    return f"{effect.relative:+.1%} ({low:+.1%} to {high:+.1%})"
