"""Whole jobs: the main one, MAML on sinusoids, the tabular pre-training, and several devices."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from experiments import few_shot, scaling, sinusoid, tabular_pretrain
from experiments.common.documents import read_records
from experiments.common.placement import place_on
from experiments.common.run import begin
from experiments.devices.checks import LEARNERS, clusters
from experiments.devices.stages import Failed, Item, Row, Setting
from jaxmeta import losses, make_step, meta_objective, parallel, sample_tasks, training


def trainings(setting: Setting) -> Iterator[Item]:
    """The main job and MAML, whole on an accelerator."""
    few = ["--steps", "4", "--eval-tasks", "20"] if setting.small else []
    narrow = ["--network", "conv4", "--width", "4"] if setting.small else []
    main = ["--learner", "prototypes", *narrow, *few]
    yield Item("few_shot", partial(_job, few_shot.main, main, "few_shot", setting))
    maml = ["--learner", "maml", *few]
    yield Item("sinusoid", partial(_job, sinusoid.main, maml, "sinusoid", setting))


def tables(setting: Setting) -> Iterator[Item]:
    """The tabular pre-training, for as many steps as its time lasts at the rate of the first."""
    first = 4 if setting.small else 50
    few: dict[str, Any] = {}
    if setting.small:
        few = {"tasks_per_step": 2, "chunk": 1, "scan": 2, "rows": 10}

    def options_of(steps: int) -> tabular_pretrain.Options:
        out = setting.out / f"tabular_{steps}"
        return tabular_pretrain.Options(
            steps=steps, seed=setting.seed, out=out, eval_tasks=256, **few
        )

    def train(steps: int, judged: bool) -> Row:
        options = options_of(steps)
        begin(options.out, go_on=False)
        state, seconds = tabular_pretrain.pretrain(options, place_on("none", None))
        row = {"seconds": seconds, "tables_per_s": steps * options.tasks_per_step / seconds}
        if judged:
            row |= tabular_pretrain.validate(tabular_pretrain.averaged(state), options)
        return row

    yield Item(f"{first} steps", partial(train, first, False))
    done = setting.out / "tabular.jsonl"
    if not setting.small and done.exists():
        rate = next(read_records(done))["found"]["tables_per_s"] / options_of(1).tasks_per_step
        # Of the time that is left, a third goes to compilation and validation.
        steps = max(first, 10 * int(0.066 * setting.seconds * rate))
        yield Item(f"{steps} steps", partial(train, steps, True))


def _job(main: Callable[..., int], arguments: list[str], name: str, setting: Setting) -> Row:
    """One experiment in a folder of its own: its exit code, and what its result says."""
    out = setting.out / name
    begun = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        code = main([*arguments, "--seed", str(setting.seed), "--out", str(out)])
    seconds = time.perf_counter() - begun
    if code:
        raise Failed(f"the job ended with code {code}.")
    result = json.loads((out / "result.json").read_text())
    return _numbers(result) | {"whole_seconds": seconds}


def _numbers(result: dict[str, Any]) -> Row:
    """The numbers of a result that stand on top, or in its first row."""
    rows = result.get("results")
    first = rows[0] if isinstance(rows, list) and rows else result
    return {name: value for name, value in first.items() if isinstance(value, int | float | str)}


def several(setting: Setting) -> Iterator[Item]:
    """With two devices or more: the same as one, then scaling; with one, that there is one."""
    if jax.device_count() < 2:
        yield Item("one device", lambda: {"devices": 1})
        return
    for way in ("pmap", "shard"):
        yield Item(f"{way} is one device", partial(same_as_one, way, setting.seed))
    counts = tuple(2**i for i in range(jax.device_count().bit_length()))
    options = scaling.Options(devices=counts, seconds=0.2 if setting.small else 2.0)
    for case in ("sinusoid_maml",) if setting.small else ("sinusoid_maml", "prototypes"):
        for kind in ("weak", "strong"):
            yield Item(f"{case}, {kind} scaling", partial(_scaling, case, kind, options))


def same_as_one(way: str, seed: int) -> Row:
    """theta after a step on all devices, and on one.

    Raises:
      Failed: if they differ by more than rounding.
    """
    learner, tx, count = LEARNERS["prototypes"], optax.sgd(0.1), jax.device_count()
    keys = jax.random.split(jax.random.key(seed), 2)
    batch = sample_tasks(clusters, keys[0], 2 * count)
    state = training.init(learner, tx, keys[1], jax.tree.map(lambda leaf: leaf[0], batch))
    step = make_step(meta_objective(learner, losses.cross_entropy), tx)
    one = jax.device_get(jax.jit(step)(state, batch)[0].theta)
    placement = place_on(way, None)
    shared = parallel.shard_tasks(batch, parallel.task_mesh())
    many = placement.compile(step)(placement.place(state), shared)[0].theta
    off = max(
        float(np.abs(ours - theirs).max())
        for ours, theirs in zip(*map(jax.tree.leaves, (one, jax.device_get(many))), strict=True)
    )
    if not off < 1e-5:
        raise Failed(f"{way} on {count} devices differs from one device by {off:.2g}.")
    return {"devices": count, "off": off}


def _scaling(case: str, kind: str, options: scaling.Options) -> Row:
    """Tasks a second on each number of devices, and of the ideal what the most reach."""
    rows = [scaling.measure(case, kind, count, options) for count in options.devices]
    rows = scaling.with_efficiency(rows)
    rates = {f"tasks_per_s on {row['devices']}": row["tasks_per_s"] for row in rows}
    return rates | {"efficiency": rows[-1]["efficiency"]}
