"""What `fine_tune` refuses: settings out of range, and starts that the implicit gradient loses."""

import functools
import math

import jax
import optax
import pytest

from jaxmeta import inner, learners, losses, networks, tasks
from jaxmeta.inner import learned_rates
from jaxmeta.learners._learned_init import NetworkParameters
from jaxmeta.transforms import fine_tune
from tests.descent import KEY, TUNED

sinusoid = tasks.sinusoids(shots=6, queries=5)


@pytest.fixture
def task(x64):
    return x64(sinusoid(jax.random.key(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps must be 1 or more"),
        ({"proximity": -1.0}, "proximity"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"differentiate": "sideways"}, "differentiate is one of full, .* got 'sideways'"),
        ({"differentiate": inner.Truncated(-1)}, "got last=-1"),
        ({"differentiate": inner.Implicit("lu")}, "solver='lu'"),
        ({"differentiate": inner.Evolution(0)}, "num_pairs must be 1 or more"),
        ({"differentiate": inner.Evolution(1, 0.0)}, "stddev above zero"),
    ],
)
def test_a_setting_out_of_range_is_a_sentence(options, message):
    settings = {"num_steps": 1} | options
    with pytest.raises(ValueError, match=message):
        TUNED(optax.sgd(0.1), **settings)
    with pytest.raises(ValueError, match="'entry' or 'leaf'"):
        learned_rates(0.1, per="row")


def test_the_implicit_gradient_has_no_trajectory_nor_rates():
    tuned = functools.partial(TUNED, num_steps=2, differentiate="implicit", proximity=1.0)
    with pytest.raises(ValueError, match="no trajectory"):
        tuned(optax.sgd(0.1), trajectory=True)
    with pytest.raises(ValueError, match="parameters of tx would not learn"):
        tuned(learned_rates(0.1))


@pytest.mark.parametrize(
    ("build", "lost"),
    [
        (lambda net: learners.learned_init(net, ways=3), "and 3 more leaves"),
        (lambda net: learners.hypernet(net, out_size=3), "without a gradient"),
        (lambda net: learners.prototypes(net, ways=3), None),
        (lambda net: learners.matching(net, ways=3), None),
    ],
    ids=["learned_init", "hypernet", "prototypes", "matching"],
)
def test_a_start_that_nothing_ties_is_refused_at_init(build, lost, make_task):
    """Implicit gradients reach what the predictions or the inner objective read, no start."""
    task = make_task(0)
    for proximity in (0.0, 1.0):
        learner = fine_tune(
            build(networks.mlp([4])),
            losses.cross_entropy,
            optax.sgd(0.1),
            2,
            differentiate="implicit",
            proximity=proximity,
        )
        if lost is not None and not proximity:
            with pytest.raises(ValueError, match=lost):
                learner.init(KEY, task)
        else:
            learner.init(KEY, task)


def test_a_start_of_which_a_part_is_lost_is_refused_too(task):
    head = lambda w: NetworkParameters(False, True, False)  # noqa: E731
    learner = TUNED(optax.sgd(0.1), 2, differentiate="implicit", where=head)
    with pytest.raises(ValueError, match=r"leaves theta\['head'\]\['bias'\] and 1 more"):
        learner.init(KEY, task)
