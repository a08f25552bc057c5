"""What is exported: a perceptron that reads some inputs and gives the outputs of some classes."""

from typing import Any, Literal, NamedTuple

import numpy as np

from jaxmeta.learners._hypernet import EmittedMLP
from jaxmeta.learners._prototypes import Prototypes
from jaxmeta.learners._ridge import RidgeHead
from jaxmeta.learners._similarity import SupportMemory
from jaxmeta.transforms import TemperedW
from jaxmeta.types import PyTree

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


class Perceptron(NamedTuple):
    """One adapted learner as NumPy arrays.

        rows = x[:, inputs], first scaled to length one if `unit_rows`
        z[:, outputs] = scale * (layers(rows) + square * |x|^2), rectified between the layers

    Attributes:
      layers: of each layer the kernel `[in, out]` and the bias `[out]`.
      inputs: the inputs that the first layer reads, int `[I]`, of `num_inputs`.
      num_inputs: columns of x.
      outputs: the class of each output of the last layer, int `[O]`. Outputs of one class are
        joined by the logarithm of the sum of their exponentials; other classes are absent.
      num_outputs: columns of z.
      unit_rows: whether rows of x are scaled to length one.
      square: what the squared length of a row weighs in all its logits. Where it weighs anything
        the sum is one of large numbers that cancel, and is computed in double precision.
      scale: what all of it is multiplied by.
    """

    layers: Layers
    inputs: np.ndarray
    num_inputs: int
    outputs: np.ndarray
    num_outputs: int
    unit_rows: bool = False
    square: float = 0.0
    scale: float = 1.0


def perceptron(
    theta: PyTree, w: Any, *, distance: Literal["euclidean", "cosine"] = "euclidean"
) -> Perceptron:
    """The learner that `w` is: of features, as the learner's network gives them.

    Args:
      theta: the learner's meta-parameters, for the scale of its logits.
      w: what `hypernet`, `ridge`, `prototypes` or `matching` (softmax attention) adapted, one task;
        with a `transforms.temperature` too.
      distance: of `prototypes`, as it was built.

    Raises:
      ValueError: for another learner's `w`, or a temperature of `matching` with several rows of a
        class.
    """
    if isinstance(w, TemperedW):
        whole = perceptron(theta.learner, w.w, distance=distance)
        if len(set(whole.outputs.tolist())) < len(whole.outputs):
            raise ValueError(
                "perceptron has no temperature for classes that are sums over several rows; export "
                "the predict function by stablehlo instead."
            )
        return whole._replace(scale=whole.scale / float(w.temperature["value"]))
    if isinstance(w, EmittedMLP):
        layers = [(layer["kernel"], layer["bias"]) for layer in w.layers]
        return _present(layers, w.present)
    if isinstance(w, RidgeHead):
        return _present([(w.kernel, w.bias)], w.present)
    if isinstance(w, Prototypes):
        return _of_prototypes(theta, w, distance)
    if isinstance(w, SupportMemory):
        rows, classes = np.nonzero(np.asarray(w.members))
        kernel = np.exp(theta["log_scale"]) * np.asarray(w.embeddings)[rows].T
        whole = _present([(kernel, np.zeros(len(rows)))], np.ones(len(rows), bool))
        return whole._replace(outputs=classes, num_outputs=w.members.shape[1], unit_rows=True)
    raise ValueError(
        f"perceptron reads what hypernet, ridge, prototypes or matching adapted, got "
        f"{type(w).__name__}; export its predict function by stablehlo instead."
    )


def _of_prototypes(theta: PyTree, w: Prototypes, distance: str) -> Perceptron:
    scale, means = float(np.exp(theta["log_scale"])), np.asarray(w.means)
    if distance == "cosine":
        lengths = np.sqrt(np.maximum(np.square(means).sum(axis=1, keepdims=True), 1e-12))
        kernel, bias = scale * (means / lengths).T, np.zeros(len(means))
        return _present([(kernel, bias)], w.present)._replace(unit_rows=True)
    # -|x - m|^2 = 2 x m - |m|^2 - |x|^2: not a digit of m may be lost, so the scale stays outside.
    squares = np.square(means.astype(np.float64)).sum(axis=1)
    whole = _present([(2.0 * means.T, -squares)], w.present, bias_dtype=np.float64)
    return whole._replace(square=-1.0, scale=scale)


def _present(
    layers: list[tuple[Any, Any]], present: Any, bias_dtype: type[np.floating] = np.float32
) -> Perceptron:
    """With the columns of the last layer that are in use."""
    arrays = [(np.asarray(k, np.float32), np.asarray(b, bias_dtype)) for k, b in layers]
    used = np.flatnonzero(np.asarray(present))
    kernel, bias = arrays[-1]
    arrays[-1] = (kernel[:, used], bias[used])
    size = len(arrays[0][0])
    return Perceptron(tuple(arrays), np.arange(size), size, used, len(present))


def prune_dead_units(whole: Perceptron) -> Perceptron:
    """The same function without the inputs and units that play no part in it.

    A unit that nothing reads goes; one that reads nothing is a constant, and goes into the biases
    of the next layer.
    """
    layers = list(whole.layers)
    size = None
    while size != (size := sum(kernel.size for kernel, _ in layers)):
        for i in range(len(layers) - 1):
            layers[i], layers[i + 1] = _without_dead_units(layers[i], layers[i + 1])
    kernel, bias = layers[0]
    live = (kernel != 0).any(axis=1)
    layers[0] = (kernel[live], bias)
    return whole._replace(layers=tuple(layers), inputs=whole.inputs[live])


def _without_dead_units(lower: tuple, upper: tuple) -> tuple[tuple, tuple]:
    (kernel, bias), (next_kernel, next_bias) = lower, upper
    reads, is_read = (kernel != 0).any(axis=0), (next_kernel != 0).any(axis=1)
    constant = np.where(reads, 0.0, np.maximum(bias, 0.0)) @ next_kernel
    live = reads & is_read
    upper = (next_kernel[live], (next_bias + constant).astype(next_bias.dtype))
    return (kernel[:, live], bias[live]), upper
