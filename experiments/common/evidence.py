"""Numbers that say what they are intervals over: judged and compared over tasks, and classes."""

from typing import Any

from jaxmeta import Evaluation, MetaLearner, evaluate, paired_difference
from jaxmeta.types import Sampler


def judged(learner: MetaLearner, theta: Any, sampler: Sampler, **options: Any) -> Evaluation:
    """As `evaluate`, with the interval for new classes where there are enough of them to tell."""
    try:
        return evaluate(learner, theta, sampler, over="classes", **options)
    except ValueError:  # or what is wrong is said again
        return evaluate(learner, theta, sampler, **options)


def paired(ours: Evaluation, theirs: Evaluation) -> dict[str, float]:
    """The mean difference and its interval over tasks; over classes too, if ours has one."""
    mean, ci95 = paired_difference(ours, theirs)
    found = {"mean": mean, "ci95": ci95}
    if ours.over == "classes":
        found["ci95_classes"] = paired_difference(ours, theirs, over="classes")[1]
    return found
