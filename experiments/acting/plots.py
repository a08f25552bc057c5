"""Regret against pulls, and what one trial did."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.common.plotting import pyplot, save


def regret(curves: Mapping[str, np.ndarray], path: Path, *, title: str) -> None:
    """What a policy has lost to always pulling the best arm, a line each, `[N]`."""
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
    worst_first = sorted(curves.items(), key=lambda item: -item[1][-1])
    for i, (name, curve) in enumerate(worst_first):
        style = {"linestyle": ("-", "--", ":")[i % 3], "color": f"C{i}"}
        axis.plot(np.arange(1, len(curve) + 1), curve, label=name, **style)
    axis.set(xlabel="pulls", ylabel="regret (sum of rewards lost)")
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
