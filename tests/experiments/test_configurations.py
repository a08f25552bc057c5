"""Configurations and checkpoints of few-shot learners: stored, judged, started from."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import few_shot
from experiments.images import judging
from experiments.images.config import TrainConfig
from experiments.images.learners import LEARNERS, build_learner
from jaxmeta import Examples, Task, checkpoint

ROWS = Examples(jnp.zeros((3, 28, 28, 1)), jnp.arange(3), jnp.ones(3))
TASK = Task(ROWS, ROWS)
TINY = ["--network", "conv4", "--width", "2", "--train-ways", "3", "--train-queries", "2"]
TINY += ["--inner-steps", "1", "--eval-tasks", "2", "--queries", "1", "--ways", "3"]
TINY += ["--no-guard"]


def save_tiny(path, config, poison=1.0):
    """A checkpoint of a learner of width 2, as it is drawn."""
    theta = build_learner(config, config.ways).init(jax.random.key(1), TASK)
    theta = jax.tree.map(lambda leaf: leaf * poison, theta)
    checkpoint.save(path, theta, config.to_json(), dtype=np.float16)
    return theta


def tiny(learner, **settings):
    return TrainConfig(learner, "glyphs", "conv4", 2, ways=3, steps=1, **settings)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_checkpoint_that_is_not_finite_is_not_judged(poison, tmp_path, capsys):
    save_tiny(tmp_path / "matching.ckpt", tiny("matching"), poison)
    flags = [*TINY, "--learner", "matching", "--out", str(tmp_path)]
    for more in (["--eval-only"], ["--steps", "0", "--init-from", str(tmp_path)]):
        assert few_shot.main([*flags, *more]) == 1
        said = capsys.readouterr()
        assert "error: " in said.err and "NaN or infinite" in said.err and not said.out


def test_a_configuration_is_what_was_stored():
    odd = tiny("cavia", hidden=(8, 4), context_size=5, film=False, size=64, proximity=0.5)
    assert TrainConfig.from_json(json.loads(json.dumps(odd.to_json()))) == odd
    # What today's settings were before they were settings.
    stored = tiny("imaml").to_json()
    for name in ("head", "least", "proximity", "solver_steps", "size", "context_size", "film"):
        del stored[name]
    del stored["hidden"]
    assert TrainConfig.from_json(stored) == tiny("imaml")
    for broken in ({"learner": "maml"}, stored | {"a": 1}, stored | {"network": "b"}):
        with pytest.raises(ValueError, match="it"):
            TrainConfig.from_json(broken)


def test_a_checkpoint_of_an_unknown_learner_is_refused(tmp_path):
    checkpoint.save(tmp_path / "b.ckpt", {}, tiny("b").to_json())
    with pytest.raises(ValueError, match="a learner b, which this version does not have"):
        judging.load_trained(tmp_path / "b.ckpt")


@pytest.mark.parametrize(
    ("learner", "other"),
    [
        ("imaml", {"proximity": 5.0}),
        ("in_context", {"size": 32}),
        ("cavia", {"context_size": 7}),
        ("cavia", {"film": False}),
        ("cavia", {"hidden": (6,)}),
        ("hypernet", {"hidden": (6,)}),
        ("maml", {"head": "prototypes"}),
    ],
)
def test_another_value_of_a_setting_makes_another_learner(learner, other):
    """No literal elsewhere takes their place: another value makes another learner."""
    emitted = []
    for config in (tiny(learner), replace(tiny(learner), **other)):
        built = build_learner(config, 3)
        x = jax.random.normal(jax.random.key(2), ROWS.x.shape)
        theta = built.init(jax.random.key(1), TASK)
        emitted.append((theta, jax.jit(built.adapt)(theta, ROWS._replace(x=x))))
    shapes = [jax.tree.map(jnp.shape, each) for each in emitted]
    same = shapes[0] == shapes[1] and all(
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, emitted), strict=True)
    )
    assert not same


@pytest.mark.parametrize("source", ["prototypes", "hypernet", "meta_sgd", "maml"])
def test_any_learner_starts_from_the_network_of_any(source, tmp_path):
    path = tmp_path / f"{source}.ckpt"
    save_tiny(path, tiny(source))
    given = arrays(network_of(judging.load_trained(path).theta))
    for learner in set(LEARNERS) - {"nearest_neighbour"}:
        config = tiny(learner)
        own = build_learner(config, 3).init(jax.random.key(2), TASK)
        start = judging.start_from(path, learner, own)
        assert jax.tree.map(jnp.shape, start) == jax.tree.map(jnp.shape, own)
        assert given <= arrays(start)
    wide = build_learner(replace(tiny("matching"), width=3), 3).init(jax.random.key(0), TASK)
    with pytest.raises(ValueError, match="the same --network and --width"):
        judging.start_from(path, "matching", wide)


def network_of(theta):
    """The parameters of its embedding, wherever they are."""
    if isinstance(theta, dict) and "network" in theta:
        return theta["network"]
    return network_of(theta.learner)


def arrays(tree):
    """The contents of all leaves."""
    return {np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)}


def test_no_steps_judge_what_is_there_before_any(tmp_path):
    """The network as it was drawn, or as another run left it."""
    first, second = tmp_path / "a", tmp_path / "b"
    for out, more in ((first, []), (second, ["--init-from", str(first / "prototypes.ckpt")])):
        flags = [*TINY, "--learner", "prototypes", "--steps", "0", "--seed", str(len(more))]
        assert few_shot.main([*flags, *more, "--out", str(out)]) == 0
        (row,) = json.loads((out / "result.json").read_text())["results"]
        assert row["steps"] == 0 and 0 <= row["accuracy"] <= 1
    given, taken = (checkpoint.read_config(out / "prototypes.ckpt") for out in (first, second))
    assert given["seed"] != taken["seed"]
    thetas = [judging.load_trained(out / "prototypes.ckpt").theta for out in (first, second)]
    jax.tree.map(np.testing.assert_array_equal, *thetas)


@pytest.mark.slow
def test_every_learner_is_judged_after_no_step(tmp_path):
    flags = [*TINY, "--learner", "all", "--steps", "0", "--out", str(tmp_path)]
    assert few_shot.main(flags) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    assert {row["learner"] for row in rows} == set(LEARNERS)


@pytest.mark.slow
def test_a_learner_is_trained_for_a_single_step(tmp_path):
    flags = [*TINY, "--learner", "prototypes", "--steps", "1", "--out", str(tmp_path)]
    assert few_shot.main(flags) == 0


def test_what_cannot_be_judged_is_refused_before_training(tmp_path, capsys):
    flags = [*TINY, "--out", str(tmp_path), "--steps", "1", "--learner", "matching"]
    for more, says in (
        (["cavia", "--ways", "4"], "--train-ways 4"),
        (["meta_sgd", "--ways", "4"], "--train-ways 4"),
        (["maml", "--head", "separate", "--ways", "4"], "--train-ways 4"),
        (["meta_sgd", "--density", "0.5"], "learns the rates"),
        (["maml_plus_plus", "--gate", "any_size"], "learns the rates"),
    ):
        assert few_shot.main([*flags, *more]) == 2
        assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("*.ckpt"))
