"""What the experiments' command lines refuse, how runs that diverge end, and what files hold."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import (
    accelerator,
    assays,
    bandits,
    few_shot,
    intents,
    mdps,
    meta_gradients,
    recommender,
    scaling,
    sinusoid,
    sparsity_path,
    tabular_benchmark,
    tabular_first_answer,
    tabular_pretrain,
    throughput,
    training_classes,
    two_tasks,
)
from experiments.common import command_line, training_loop
from experiments.common.placement import count_or_auto
from jaxmeta import Examples, Task, TrainState, checkpoint

MAINS = {
    module.__name__.rpartition(".")[2]: module.main
    for module in (
        accelerator,
        assays,
        bandits,
        few_shot,
        intents,
        mdps,
        meta_gradients,
        recommender,
        scaling,
        sinusoid,
        sparsity_path,
        tabular_benchmark,
        tabular_first_answer,
        tabular_pretrain,
        throughput,
        training_classes,
        two_tasks,
    )
}
NONSENSE = ("nan", "inf", "-inf", "-1", "1e400", "many", "")
COUNTS = ("eval_tasks", "queries", "tasks_per_step", "width", "ways", "tasks", "rounds", "devices")
ROWS = Examples(jnp.zeros((3, 28, 28, 1)), jnp.arange(3), jnp.ones(3))
TASK = Task(ROWS, ROWS)
TINY = ["--network", "conv4", "--width", "2", "--train-ways", "3", "--train-queries", "2"]
TINY += ["--inner-steps", "1", "--eval-tasks", "2", "--queries", "1", "--ways", "3"]
TINY += ["--no-guard"]


class Parsed(Exception):
    """Carries the parser out of a main that got as far as reading its arguments."""


def numbers_of(main, monkeypatch):
    """The numeric flags of an experiment."""

    def stop(parser, arguments=None):
        raise Parsed(parser)

    with monkeypatch.context() as patch, pytest.raises(Parsed) as caught:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        main([])
    return [
        each for each in caught.value.args[0]._actions if each.type in (int, float, count_or_auto)
    ]


def code_of(main, arguments):
    """The exit code, as a shell would see it."""
    try:
        return main(arguments)
    except SystemExit as ended:  # argparse's own refusal
        return ended.code


@pytest.mark.parametrize("name", MAINS)
def test_numbers_that_cannot_be_meant_are_refused(name, monkeypatch, capsys, tmp_path):
    """Every numeric flag there is, before anything is written or trained."""
    out = tmp_path / "out"
    for flag in numbers_of(MAINS[name], monkeypatch):
        values = NONSENSE + (("0",) if flag.dest in COUNTS else ())
        for value in values if flag.dest != "seed" else ("nan", "inf", "1e400", "9" * 30):
            arguments = ["--out", str(out), f"{flag.option_strings[0]}={value}"]
            assert code_of(MAINS[name], arguments) == 2, arguments
            said = capsys.readouterr().err
            assert "error:" in said and flag.option_strings[0] in said, arguments
    assert not out.exists()


def test_every_experiment_ends_in_a_sentence(capsys, tmp_path):
    """What cannot be written is one too."""
    (tmp_path / "file").touch()
    for name, main in MAINS.items():
        assert main(["--out", str(tmp_path / "file")]) == 2, name
        assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (command_line.Diverged("a"), 1),
        (ValueError("a"), 2),
        (OSError("a"), 2),
        (ImportError("a"), 2),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: a"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_code_says_how_a_run_ended(error, code, capsys):
    @command_line.in_a_sentence
    def main(arguments=None):
        raise error

    assert main() == code
    assert capsys.readouterr().err.startswith("error: ") == (code != 130)


@pytest.mark.slow
def test_the_other_experiments_judge_after_no_step(tmp_path, monkeypatch):
    pools = tuple(np.random.default_rng(0).normal(size=(2, 6, 4, 9)).astype(np.float32))
    monkeypatch.setattr(sparsity_path, "embedded", lambda *_, **__: pools)
    monkeypatch.setattr(sinusoid, "MOST_STEPS", 6)
    no_steps = ["--steps", "0", "--eval-tasks", "1", "--out", str(tmp_path)]
    whole = ["--learner", "prototypes", "--mechanism", "dense", sparsity_path.WHOLE_INPUTS]
    for main, flags in (
        (sinusoid.main, ["--learner", "maml", "ridge", "maml_plus_plus"]),
        (two_tasks.main, ["--learner", "hypernet", "nearest_neighbour"]),
        (sparsity_path.main, [*whole, "--ways", "3", "--timing", "0"]),
        (tabular_pretrain.main, ["--rows", "10", "--tasks-per-step", "1", "--chunk", "1"]),
    ):
        assert main([*flags, *no_steps]) == 0
        json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)


def toy_run(fault):
    """`(start, run)`: theta counts steps, and is NaN from step `fault` on."""

    @jax.jit
    def run(state):
        moved = jnp.where(state.step >= fault, jnp.nan, state.theta + 1.0)
        return state._replace(theta=moved, step=state.step + 1), {"loss": moved[None]}

    return TrainState(jnp.zeros(()), (), jax.random.key(0), jnp.int32(0)), run


def test_a_run_ends_where_theta_is_first_seen_not_to_be_finite(tmp_path, monkeypatch):
    """Its checkpoints are those of before, from which it can go on."""
    monkeypatch.setattr(training_loop, "_SAVE_EVERY_SECONDS", 0.0)
    start, run = toy_run(fault=5)
    settings = {"name": "toy", "config": {}, "out": tmp_path}
    with pytest.raises(command_line.Diverged, match="toy, at outer step 6, has meta-parameters"):
        training_loop.train(run, start, num_steps=10**9, log_every=2, **settings)
    kept, _ = training_loop.resume(start, **settings)
    assert kept.theta == 5.0 and kept.step == 5
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line, parse_constant=pytest.fail)["loss"] for line in lines]
    assert losses == [1.5, 3.5, None]
    with pytest.raises(command_line.Diverged):
        poisoned = start._replace(theta=jnp.float32(jnp.inf))
        training_loop.train(run, poisoned, num_steps=1, **settings)


def test_training_that_diverges_ends_with_code_one(tmp_path, capsys):
    flags = [*TINY, "--learner", "matching", "--learning-rate", "1e30", "--steps", "3"]
    assert few_shot.main([*flags, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "NaN or infinite" in said.err and not said.out
    assert not (tmp_path / "result.json").exists()


def test_two_tasks_that_diverge_end_with_code_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(optax, "adam", lambda rate: optax.scale(jnp.nan))
    flags = ["--learner", "prototypes", "--steps", "2", "--out", str(tmp_path)]
    assert two_tasks.main(flags) == 1
    assert "NaN or infinite" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sinusoid", "sparsity_path", "tabular_pretrain"])
def test_the_others_that_diverge_do_too(name, tmp_path, capsys, monkeypatch):
    pools = tuple(np.random.default_rng(0).normal(size=(2, 6, 4, 9)).astype(np.float32))
    monkeypatch.setattr(sparsity_path, "embedded", lambda *_, **__: pools)
    module = {
        "sinusoid": sinusoid,
        "sparsity_path": sparsity_path,
        "tabular_pretrain": tabular_pretrain,
    }[name]
    monkeypatch.setattr(module, "skip_faults", lambda tx: optax.scale(jnp.nan))
    flags = {
        "sinusoid": ["--learner", "ridge"],
        "sparsity_path": ["--learner", "matching", "--ways", "3"],
        "tabular_pretrain": ["--rows", "10", "--tasks-per-step", "1", "--chunk", "1"],
    }[name]
    assert MAINS[name]([*flags, "--steps", "2", "--out", str(tmp_path)]) == 1
    assert "NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_resume_takes_new_settings_at_their_old_values(tmp_path):
    start, _ = toy_run(fault=9)
    settings = {"name": "toy", "out": tmp_path}
    checkpoint.save_newest(tmp_path / "toy.state", start, {"a": 1, "seconds": 2.0})
    _, seconds = training_loop.resume(start, config={"a": 1, "b": 3}, before={"b": 3}, **settings)
    assert seconds == 2.0
    with pytest.raises(ValueError, match=r"other settings than these \(b\)"):
        training_loop.resume(start, config={"a": 1, "b": 4}, before={"b": 3}, **settings)
