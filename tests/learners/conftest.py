"""A task and a theta for the learner whose `name` a test is given."""

import functools

import jax
import pytest

from tests.zoo import LEARNERS, draw_sinusoid


@pytest.fixture
def draw(name, make_task):
    """`draw(seed) -> task` of the kind that the learner is for."""
    return make_task if "regression" not in name else draw_sinusoid


@pytest.fixture
def theta(name, draw):
    # Not of module scope: pytest-xdist's order of tests has been seen to hand out another name's.
    return initial(name, draw)


@functools.cache
def initial(name, draw):
    return LEARNERS[name].init(jax.random.key(0), draw(0))
