"""The bandits experiment at toy size, and the policies that it compares with."""

import json

import jax
import numpy as np
import pytest

from experiments import bandits
from experiments.acting import policies
from jaxmeta.acting import bernoulli_bandit


@pytest.mark.slow
def test_bandits_writes_the_contract_and_goes_on(tmp_path, capsys):
    flags = ["--arms", "3", "--pulls", "4", "--steps", "2", "--tasks-per-step", "8", "--size", "4"]
    flags += ["--eval-tasks", "60", "--any-size", "--out", str(tmp_path)]
    assert bandits.main(flags) == 0
    document = json.loads((tmp_path / "result.json").read_text())
    rows = {row["name"]: row for row in document["results"]}
    assert {"rl2", "thompson", "ucb1", "greedy", "random", "optimum"} <= set(rows)
    for name, row in rows.items():
        assert 0 < row["reward"] <= 4 and row["ci95"] >= 0
        assert name == "optimum" or row["num_tasks"] == 60
    assert rows["rl2"]["rl2_more"] == 0 and rows["rl2"]["steps_per_second"] > 0
    assert "of the optimum" in capsys.readouterr().out
    for name in ("regret.png", "trial.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert bandits.main([*flags, "--resume", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["results"]
    assert again[0]["reward"] == rows["rl2"]["reward"]


@pytest.mark.slow
def test_bandits_of_few_pulls_train_all_learners(tmp_path):
    flags = ["--arms", "3", "--pulls", "4", "--steps", "2", "--tasks-per-step", "8"]
    assert bandits.main([*flags, "--eval-tasks", "30", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "result.json").read_text())["results"]
    assert [row["name"] for row in rows[:3]] == ["rl2", "dpt", "maml"]
    assert all(row["arms"] == 3 and row["pulls"] == 4 for row in rows)
    assert all(row["seconds"] > 0 and row["density"] > 0 for row in rows[:3])


def test_a_theta_for_every_size_is_judged_on_several():
    options = bandits.Options(arms=10, pulls=10, any_size=True)
    assert bandits.sizes_of(options) == [(10, 10), (5, 10)]
    assert bandits.sizes_of(bandits.Options(arms=10, pulls=100)) == [(10, 100)]


def drawn(arms, pulls, count):
    """Means and luck of some bandits."""
    bandit = bernoulli_bandit(arms, pulls)
    tasks = jax.vmap(bandit.draw)(jax.random.split(jax.random.key(0), count))
    return np.asarray(tasks.means), np.asarray(tasks.noise)


def test_policies_earn_what_the_environment_pays():
    """An index without chance in it, pull by pull."""
    bandit = bernoulli_bandit(arms=3, pulls=7)
    means, noise = drawn(3, 7, 5)

    def bonus(rng, wins, losses, t):
        return (wins + 1) / (wins + losses + 2) + 0.3 / (1 + losses) + 1e-3 * np.arange(3)

    got = policies.rewards_of(bonus, means, noise, np.random.default_rng(0))
    tasks = jax.vmap(bandit.draw)(jax.random.split(jax.random.key(0), 5))
    for n in range(5):
        params = jax.tree.map(lambda leaf, n=n: leaf[n], tasks)
        _, state = bandit.reset(jax.random.key(0), params)
        wins, losses = np.zeros(3), np.zeros(3)
        for t in range(7):
            arm = int(np.argmax(bonus(None, wins, losses, t)))
            _, state, reward, _ = bandit.step(jax.random.key(0), state, arm, params)
            wins[arm] += float(reward)
            losses[arm] += 1 - float(reward)
            assert got[n, t] == float(reward)


def test_rivals_know_better_than_chance():
    rng, played = np.random.default_rng(0), drawn(4, 30, 400)
    fixed = {
        name: policies.rewards_of(index, *played, rng).sum(axis=1).mean()
        for name, index in policies.FIXED.items()
    }
    assert abs(fixed["random"] - 15) < 1.5
    assert fixed["optimistic_thompson"] > fixed["thompson"] > fixed["random"] + 3
    for name in policies.TUNED:
        index, weight = policies.tuned(name, *played, rng)
        assert weight in policies.WEIGHTS
        assert policies.rewards_of(index, *played, rng).sum(axis=1).mean() > 19
