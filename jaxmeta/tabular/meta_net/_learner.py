"""The tabular meta-net: a small labelled table in, a sparse linear model over a dictionary out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta._examples import one_hot_labels, read_support
from jaxmeta._precision import standard_promotion
from jaxmeta._validation import check_inputs, check_positive
from jaxmeta.tabular._arrays import LANDMARKS, EmittedTable
from jaxmeta.tabular.meta_net._contrasts import with_contrasts
from jaxmeta.tabular.meta_net._dictionary import build_dictionary, expand
from jaxmeta.tabular.meta_net._head import Reading, emission_init, emit
from jaxmeta.tabular.meta_net._logistic_path import fit_bank, view_scales
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task


class TableDescription(NamedTuple):
    """What is known of a table beside its rows.

    Attributes:
      categorical: 1 for columns that hold codes, 0 for numbers, `[D]`.
      num_terms: terms that the emitted model may have, `[]`; 0 for all of them.
    """

    categorical: Array
    num_terms: Array


def tabular(
    *,
    ways: int = 5,
    num_landmarks: int = LANDMARKS,
    size: int = 32,
    cell_size: int = 16,
    num_layers: int = 2,
    num_heads: int = 4,
) -> MetaLearner:
    """Emit a linear model over a fixed dictionary from a table, in one forward pass.

    A bank of logistic fits is computed in closed form; the meta-net weighs them by how they do on
    rows left out, and corrects what comes of it:

        pi  = softmax_b(-beta * S * loss_b + m_b)                 loss_b: on rows left out
        w_f = exp(g_f) * sum_b pi_b w_bf + a_f * r_f         r_f: term f's part in the residuals
        z   = exp(tau) * (w . terms(x) + bias)

    with m, g, a, tau emitted by an encoder in which rows and columns attend in turn, all of them
    zero before training. A gate keeps k terms where the description asks for it; the encoder is
    told k, so one theta serves every size.

    Args:
      ways: the most classes C.
      num_landmarks: the most bumps of the dictionary; never more than support rows.
      size: size E of the tokens of rows and columns.
      cell_size: size of what a row says in a column.
      num_layers: rounds of attention.
      num_heads: heads of every attention; they divide E.

    Returns:
      A learner of tasks with `x [N, 2, D]`, values and 1 where one is known, and a
      `TableDescription`. No order of rows, columns or classes matters.

    Raises:
      ValueError: if a count is less than 1, or the heads do not divide the size.

    Example:
      >>> import jax
      >>> from jaxmeta.tabular import meta_net, prior
      >>> task = prior.tabular_prior(rows=12, queries=4, columns=5)(jax.random.key(0))
      >>> learner = meta_net.tabular(size=8, num_layers=1)
      >>> theta = jax.eval_shape(learner.init, jax.random.key(1), task)
    """
    check_positive(
        ways=ways, num_landmarks=num_landmarks, size=size, cell_size=cell_size, num_heads=num_heads
    )
    if size % num_heads:
        raise ValueError(f"tabular has num_heads={num_heads} that do not divide size={size}.")

    def init(key: Array, task: Task) -> PyTree:
        del task  # no shape of theta depends on it
        return emission_init(
            key, size=size, cell_size=cell_size, num_layers=num_layers, num_heads=num_heads
        )

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> EmittedTable:
        del key
        support = read_support(support, ways, classes_for="tabular")
        description = _checked(support, description)
        landmarks = min(num_landmarks, len(support.y))
        reading = _read(support, description.categorical, ways, landmarks)
        kernel, bias, contrasts = emit(theta, reading, description.num_terms, num_heads=num_heads)
        return EmittedTable(
            kernel=kernel[:, 1:] - kernel[:, :1],
            bias=bias[1:] - bias[0],
            present=reading.present,
            dictionary=reading.dictionary,
            contrasts=contrasts,
        )

    def predict(theta: PyTree, w: EmittedTable, x: Array) -> Array:
        del theta
        check_inputs(x, takes_integers=False)
        z = with_contrasts(expand(w.dictionary, x), w.contrasts) @ w.kernel + w.bias[None]
        z = jnp.concatenate([jnp.zeros((len(z), 1), z.dtype), z], axis=1)
        return with_absent(z, w.present)

    return MetaLearner(init, standard_promotion(adapt), standard_promotion(predict))


def _checked(support: Examples, description: PyTree) -> TableDescription:
    if support.x.ndim != 3 or support.x.shape[1] != 2:
        raise ValueError(
            f"tabular reads x [N, 2, D], values and 1 where one is known, got {support.x.shape}."
        )
    if not isinstance(description, TableDescription):
        raise ValueError(
            "tabular needs description=TableDescription(categorical, num_terms), got "
            f"{type(description).__name__}; for a dense model of numbers give zeros [D] and 0."
        )
    return description


def _read(support: Examples, categorical: Array, ways: int, num_landmarks: int) -> Reading:
    """Everything that is computed in closed form; no gradient goes through it."""
    members = one_hot_labels(support, ways)
    present = members.sum(axis=0) > 0
    dictionary, terms = build_dictionary(support, categorical, members, num_landmarks=num_landmarks)
    bank = fit_bank(terms, members, view_scales(dictionary, num_landmarks))
    log_p = jax.nn.log_softmax(with_absent(bank.left_out, present), axis=-1)
    reading = Reading(
        terms=terms,
        members=members,
        present=present,
        used=((support.x[:, 1] > 0) & support.mask.astype(bool)[:, None]).any(axis=0),
        categorical=categorical,
        dictionary=dictionary,
        bank=bank,
        losses=-(log_p * members[None]).sum(axis=-1),
    )
    return jax.lax.stop_gradient(reading)
