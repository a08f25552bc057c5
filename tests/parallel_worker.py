"""Three outer steps of five learners on several devices, in a process of its own.

    python parallel_worker.py none|pmap|shard OUT.npz [COORDINATOR NUM_PROCESSES PROCESS_ID]

Writes what came out of theta and the loss, and for shard how often the compiled step communicates.
"""

import re
import sys

import jax
import numpy as np
import optax

from jaxmeta import (
    acting,
    evaluate,
    learners,
    losses,
    make_step,
    meta_objective,
    networks,
    parallel,
    sample_tasks,
    scan_steps,
    tasks,
    training,
)

NET = networks.mlp([8])
LEARNERS = {
    "metric": learners.prototypes(NET, ways=2),
    "gradient": learners.maml(NET, ways=2, num_steps=2, rate=0.1),
    "closed form": learners.ridge(NET, ways=2),
    "hypernetwork": learners.hypernet(NET, out_size=2, hidden=()),
}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
BANDIT = acting.bernoulli_bandit(arms=2, pulls=4)
SAMPLER = tasks.two_tasks(shots=4, queries=3, features=2)
NUM_TASKS = 16


def main(kind, out, *distributed):
    if distributed:
        coordinator, *counts = distributed
        jax.distributed.initialize(coordinator, *map(int, counts))
    results = {}
    jobs = {
        name: (learner, meta_objective(learner, losses.cross_entropy), SAMPLER)
        for name, learner in LEARNERS.items()
    }
    actor = acting.actor_critic(learners.recurrent(networks.identity(), ways=2, size=4), BANDIT)
    objective = acting.actor_critic_objective(actor, BANDIT)
    jobs["policy gradient"] = actor, objective, acting.environment_tasks(BANDIT)
    for name, job in jobs.items():
        results |= {f"{name}/{key}": value for key, value in run(kind, *job).items()}
    results |= {f"masked/{key}": value for key, value in run_masked(kind).items()}
    mesh = None if kind == "none" else parallel.task_mesh()
    learner = LEARNERS["gradient"]
    theta = learner.init(jax.random.key(0), SAMPLER(jax.random.key(0)))
    judged = evaluate(
        learner, theta, SAMPLER, key=jax.random.key(1), num_tasks=37, metric=smooth, mesh=mesh
    )
    results["judged"] = judged.per_task
    if jax.process_index() == 0:
        np.savez(out, **results)


def smooth(z, y, mask):
    """A metric in which the last digits of the predictions can be seen."""
    return jax.nn.tanh(z).mean()


def run_masked(kind):
    """One step in which the devices have different numbers of bad tasks, by NaN in the support."""
    learner, tx = LEARNERS["gradient"], optax.sgd(0.1)
    step = make_step(meta_objective(learner, losses.cross_entropy), tx, on_bad_task="skip")
    state = training.init(learner, tx, jax.random.key(0), SAMPLER(jax.random.key(0)))
    batch = sample_tasks(SAMPLER, jax.random.key(5), NUM_TASKS)
    x = np.array(batch.support.x)
    x[[1, 4, 5], 0, 0] = np.nan
    batch = batch._replace(support=batch.support._replace(x=x))
    found = {}
    if kind == "none":
        step = jax.jit(step)
    elif kind == "pmap":
        step, state = parallel.pmap_step(step), parallel.replicate(state)
    else:
        mesh = parallel.task_mesh()
        state, batch = parallel.replicate(state, mesh), parallel.shard_tasks(batch, mesh)
        step = parallel.shard_step(step, mesh).lower(state, batch).compile()
        found = collectives(step)
    state, metrics = step(state, batch)
    state, metrics = parallel.unreplicate(state), parallel.unreplicate(metrics)
    theta = jax.flatten_util.ravel_pytree(state.theta)[0]
    return found | {"theta": theta, "bad_tasks": metrics["bad_tasks"]}


def collectives(compiled):
    """How often the compiled program communicates, in each way."""
    program = compiled.as_text()
    return {name: len(re.findall(rf" {name}(?:-start)?\(", program)) for name in COLLECTIVES}


def run(kind, learner, loss_fn, sampler):
    tx = optax.sgd(0.1)  # Adam would hide a gradient that is too large by a factor
    step = make_step(loss_fn, tx)
    # Two chunks of tasks on each device, sampled there.
    chunked = make_step(loss_fn, tx, tasks_per_chunk=1 if kind == "pmap" else 2)
    loop = scan_steps(chunked, sampler, num_steps=2, tasks_per_step=NUM_TASKS)
    state = training.init(learner, tx, jax.random.key(0), sampler(jax.random.key(0)))
    batch = sample_tasks(sampler, jax.random.key(5), NUM_TASKS)
    found = {}
    if kind == "none":
        step, loop = jax.jit(step), jax.jit(loop)
    elif kind == "pmap":
        state = parallel.replicate(state)
        step, loop = parallel.pmap_step(step), parallel.pmap_step(loop)
    else:
        mesh = parallel.task_mesh()
        state, batch = parallel.replicate(state, mesh), parallel.shard_tasks(batch, mesh)
        step, loop = parallel.shard_step(step, mesh), parallel.shard_step(loop, mesh)
        step = step.lower(state, batch).compile()
        found = collectives(step)
    after_one, metrics = step(state, batch)
    if kind != "none":
        found["donated"] = all(leaf.is_deleted() for leaf in jax.tree.leaves(state.theta))
    found["loss"] = parallel.unreplicate(metrics)["loss"]
    after_three, metrics = loop(after_one)
    found["losses"] = parallel.unreplicate(metrics)["loss"]
    theta = jax.flatten_util.ravel_pytree(parallel.unreplicate(after_three).theta)[0]
    return found | {"theta": theta}


if __name__ == "__main__":
    main(*sys.argv[1:])
