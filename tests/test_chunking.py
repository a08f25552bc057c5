"""Chunks of tasks: the same gradient in less memory, and the size that is chosen by default."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import (
    _chunking,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    sample_tasks,
    training,
)
from jaxmeta import tasks as families

SAMPLER = families.two_tasks(shots=20, queries=3, features=2)
LEARNER = learners.prototypes(networks.mlp([3]), ways=2)
ADAM = optax.adam(0.05)


def start(tx=ADAM, learner=LEARNER):
    return training.init(learner, tx, jax.random.key(0), SAMPLER(jax.random.key(0)))


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_chunks_of_tasks_have_the_gradient_of_the_batch(size):
    tx = optax.sgd(0.1)
    tasks = sample_tasks(SAMPLER, jax.random.key(3), 6)
    loss_fn = meta_objective(LEARNER, losses.cross_entropy)
    whole, chunked = (
        jax.jit(make_step(loss_fn, tx, tasks_per_chunk=n))(start(tx), tasks) for n in (6, size)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (chunked[0]._replace(key=0), chunked[1]),
        (whole[0]._replace(key=0), whole[1]),
    )


def test_chunks_divide_the_tasks():
    tasks = sample_tasks(SAMPLER, jax.random.key(3), 6)
    loss_fn = meta_objective(LEARNER, losses.cross_entropy)
    for size in (0, 4):
        with pytest.raises(ValueError, match=f"tasks_per_chunk={size} do not divide 6"):
            make_step(loss_fn, ADAM, tasks_per_chunk=size)(start(), tasks)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["", "measured_"])
@pytest.mark.parametrize("scale", [1.0, jnp.array([1.0, 2.0])], ids=["alone", "under vmap"])
def test_the_default_chunk_fits_the_cache(monkeypatch, scale, rule):
    """The program of one task allocates some kilobytes: 24 fit the cache, and 2 if it is small."""
    learner = learners.maml(networks.mlp([64]), num_steps=2, ways=2)
    tasks = sample_tasks(SAMPLER, jax.random.key(3), 24)
    tx = optax.sgd(0.1)
    state = start(tx, learner)
    chosen = []
    choose = getattr(_chunking, f"{rule}chunk_size")

    def spy(*arguments):
        chosen.append(choose(*arguments))
        return chosen[-1]

    monkeypatch.setattr(_chunking, f"{rule}chunk_size", spy)

    def steps(scale):
        # What the loss closes over may be traced: that of a search over its weights is.
        loss_fn = meta_objective(learner, losses.cross_entropy, alpha=lambda step: scale)
        size = "auto" if rule else None
        return make_step(loss_fn, tx, tasks_per_chunk=size)(state, tasks)[0].theta

    def run():
        traced_anew = lambda scale: steps(scale)  # noqa: E731
        return jax.jit(traced_anew if np.ndim(scale) == 0 else jax.vmap(traced_anew))(scale)

    whole = run()
    monkeypatch.setattr(_chunking, "_TOO_SMALL_TO_MATTER", 0)
    run()
    monkeypatch.setattr(_chunking, "_CACHE_BYTES", 40_000)
    chunked = run()
    assert chosen[:2] == [24, 24] and 1 <= chosen[2] < 24
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), chunked, whole
    )


def test_auto_measures_once_for_the_shapes_of_a_step(monkeypatch):
    seen = []
    monkeypatch.setattr(_chunking, "measured_chunk_size", lambda *args: seen.append(args) or 2)
    step = make_step(meta_objective(LEARNER, losses.cross_entropy), ADAM, tasks_per_chunk="auto")
    for count in (6, 6, 4):
        traced_anew = jax.jit(lambda *args: step(*args))
        traced_anew(start(), sample_tasks(SAMPLER, jax.random.key(3), count))
    assert len(seen) == 2


def test_another_word_for_the_size_is_refused():
    with pytest.raises(ValueError, match="neither a number of tasks nor 'auto'"):
        make_step(meta_objective(LEARNER, losses.cross_entropy), ADAM, tasks_per_chunk="all")
