"""Regret against pulls, and what one trial did."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.plotting import pyplot, save


def regret(
    curves: Mapping[str, np.ndarray], path: Path, *, title: str, unit: str = "pulls"
) -> None:
    """What a policy has lost to the best one, which knows the task, a line each, `[N]`."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    worst_first = sorted(curves.items(), key=lambda item: -item[1][-1])
    for i, (name, curve) in enumerate(worst_first):
        style = {"linestyle": ("-", "--", ":")[i % 3], "color": f"C{i}"}
        axis.plot(np.arange(1, len(curve) + 1), curve, label=name, **style)
    # Acting at random loses several times as much as the next: its line leaves the picture.
    highest = 1.2 * max(worst_first[min(1, len(worst_first) - 1)][1])
    lowest = min(0.0, *(min(curve) for curve in curves.values()))  # by luck in a short run
    axis.set(xlabel=unit, ylabel="regret (sum of rewards lost)")
    axis.set_ylim(lowest, max(highest, lowest + 1.0))
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8)
    save(figure, path)


def one_trial(
    means: np.ndarray, actions: np.ndarray, rewards: np.ndarray, chances: np.ndarray, path: Path
) -> None:
    """The pulls of a trial over the chance that each arm had, the best arm on top.

    Args:
      means: of the arms `[C]`.
      actions: pulled `[N]`.
      rewards: `[N]`.
      chances: of the arms at each pull `[N, C]`.
      path: of the PNG.
    """
    plt = pyplot()
    order = np.argsort(-means)
    place = np.argsort(order)
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.3 * len(means)), layout="constrained")
    shown = axis.imshow(chances[:, order].T, aspect="auto", cmap="Blues", vmin=0, vmax=1)
    for paid, mark, colour in ((1.0, "o", "tab:green"), (0.0, "x", "tab:red")):
        pulls = np.flatnonzero(rewards == paid)
        style = {"marker": mark, "linestyle": "none", "color": colour, "markersize": 4}
        label = "paid" if paid else "paid nothing"
        axis.plot(pulls, place[actions[pulls]], label=label, **style)
    axis.set_yticks(range(len(means)), [f"{means[arm]:.2f}" for arm in order], fontsize=8)
    axis.set(xlabel="pull", ylabel="mean of the arm")
    figure.colorbar(shown, label="chance to be pulled")
    figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=2)
    save(figure, path)


def process_trial(
    where: np.ndarray, actions: np.ndarray, means: np.ndarray, chances: np.ndarray, path: Path
) -> None:
    """A trial in a random process, an episode a line: the state and the action of each step.

    Args:
      where: states `[episodes, H]`.
      actions: `[episodes, H]`.
      means: mean rewards of the steps `[episodes, H]`, the colour.
      chances: of the likeliest action of each `[episodes, H]`; below a half it is in italics.
      path: of the PNG.
    """
    plt = pyplot()
    episodes, horizon = where.shape
    size = (1.5 + 0.6 * horizon, 1.3 + 0.34 * episodes)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    shown = axis.imshow(means, aspect="auto", cmap="RdYlGn")
    for (n, t), state in np.ndenumerate(where):
        style = "italic" if chances[n, t] < 0.5 else "normal"
        label = f"{state}:{actions[n, t]}"
        axis.text(t, n, label, ha="center", va="center", fontsize=7, style=style)
    axis.set(xlabel="step (state:action)", ylabel="episode")
    axis.set_yticks(range(episodes), [str(n + 1) for n in range(episodes)], fontsize=7)
    figure.colorbar(shown, label="mean reward of the step")
    save(figure, path)


def maze_trials(goals: np.ndarray, trials: Any, walls: Sequence[str], path: Path) -> None:
    """The ways of some trials: the first episode searches, the second knows.

    Args:
      goals: cells `[T]`.
      trials: what `play` returns, for `T` trials; rows begin with the cell, one-hot.
      walls: the lines of the maze.
      path: of the PNG.
    """
    plt = pyplot()
    solid = np.array([[mark == "#" for mark in line] for line in walls])
    cells = np.argwhere(~solid)
    size = (3.2 * len(goals), 3.7)
    figure, axes = plt.subplots(1, len(goals), figsize=size, layout="constrained")
    for axis, goal, rows, mask in zip(
        np.atleast_1d(axes), goals, trials.rows, trials.mask, strict=True
    ):
        axis.imshow(solid, cmap="Greys")
        way = cells[rows[:, : len(cells)].argmax(axis=1)]
        left = rows[:, -2]
        for n, share in enumerate(np.unique(left)[::-1][:2]):
            steps = way[(left == share) & (mask > 0)] + (0.12 * (2 * n - 1))
            axis.plot(steps[:, 1], steps[:, 0], f"C{n}o-", markersize=3, label=f"episode {n + 1}")
        axis.plot(*cells[goal][::-1], "*", color="tab:green", markersize=16, label="goal")
        axis.set(xticks=[], yticks=[])
    lines = np.atleast_1d(axes)[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside upper right", ncols=3, frameon=False, markerscale=0.7)
    save(figure, path)
