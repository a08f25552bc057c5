"""The emission: from what was read of a table, and the encoder's tokens, to one dense model."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta._absent import with_absent
from jaxmeta.networks._mlp import dense_init, mlp_apply
from jaxmeta.tabular._arrays import TERMS, Dictionary
from jaxmeta.tabular.meta_net._contrasts import choose_contrasts, say_by_contrasts, with_contrasts
from jaxmeta.tabular.meta_net._dictionary import term_columns
from jaxmeta.tabular.meta_net._encoder import encode, encoder_init
from jaxmeta.tabular.meta_net._logistic_path import NUM_VIEWS, PENALTIES, Bank, class_probabilities
from jaxmeta.tabular.meta_net._pruning import select_terms
from jaxmeta.types import Array, PyTree

_NUM_FITS = NUM_VIEWS * len(PENALTIES)
_FIT_INPUTS, _TERM_INPUTS, _TASK_INPUTS = 5 + _NUM_FITS, 4 + NUM_VIEWS, 6

# Inputs of heads are centred on, and scaled by, what is common among the tables of the prior, so
# that most of them lie between -1 and 1.
_COMMON_ROWS, _COMMON_COLUMNS = 50.0, 6.0
_FEWEST_CLASSES, _SPREAD_OF_CLASSES = 2.0, 3.0
_COMMON_TERMS, _OCTAVES_OF_TERMS = 8.0, 3.0
# Losses, their gaps and cells are clipped: no wild row pushes a head out of what it has seen.
_MOST_LOSS, _MOST_GAP, _MOST_CELL = 3.0, 2.0, 5.0
_MOST_DEVIATIONS, _DEVIATION_UNIT = 8.0, 4.0
# A row that the model is sure of tells little of which terms matter, but something.
_LEAST_ROW_WEIGHT = 0.05
# Before training, the score of a fit is minus a fifth of its summed loss on rows left out: fits
# that are nearly as good as the best one share the weight. Training moves it.
_FIRST_BETA = 0.2
# The Newton step along the residuals is divided by the standard deviation of a class, which a class
# of nearly all rows or of none would bring to zero.
_LEAST_VARIANCE = 1e-3
# Rows x step squared is a chi-square of one term: a tenth brings it to the size of the weights.
_STEP_SCALE = 0.1
# They keep roots and quotients of zeros, as terms of padded columns are, differentiable.
_DEVIATION_FLOOR, _SIZE_FLOOR, _PRODUCT_FLOOR = 1e-6, 1e-8, 1e-10


class Reading(NamedTuple):
    """What is known of one support set before anything learned looks at it.

    Attributes:
      terms: of the support rows `[S, F]`, zeros where padded.
      members: class membership `[S, C]`, zeros where padded.
      present: which classes the support set has, bool `[C]`.
      used: which columns the table has, bool `[D]`.
      categorical: which of them hold codes, `[D]`.
      dictionary: what turns rows into terms.
      bank: B fits.
      losses: of each fit on each row left out, `[B, S]`; zeros where padded.
    """

    terms: Array
    members: Array
    present: Array
    used: Array
    categorical: Array
    dictionary: Dictionary
    bank: Bank
    losses: Array


class _Mixture(NamedTuple):
    """The bank as one model: `kernel [F, C]`, `bias [C]`, and its left-out logits `[S, C]`."""

    kernel: Array
    bias: Array
    left_out: Array


def emission_init(key: Array, *, size: int, cell_size: int, num_layers: int, num_heads: int):
    """theta: the encoder, and heads that say zero before they are trained."""
    encoder_key, fit_key, term_key, task_key, place_key = jax.random.split(key, 5)
    return {
        "encoder": encoder_init(
            encoder_key, size=size, cell_size=cell_size, num_layers=num_layers, num_heads=num_heads
        ),
        "log_beta": jnp.log(jnp.float32(_FIRST_BETA)),
        "fit": _head_init(fit_key, _FIT_INPUTS + size + _TASK_INPUTS, size, 1),
        "task": _head_init(task_key, size + _TASK_INPUTS, size, 1),
        "term": _head_init(term_key, _TERM_INPUTS + 2 * size + _TASK_INPUTS, size, 2),
        "place": jax.random.normal(place_key, (TERMS + 1, size)),
        "bump": jnp.zeros(size),
    }


def _head_init(key: Array, in_size: int, size: int, out_size: int) -> list[PyTree]:
    last = {"kernel": jnp.zeros((size, out_size)), "bias": jnp.zeros(out_size)}
    return [dense_init(key, in_size, size), last]


def emit(theta: PyTree, reading: Reading, num_terms: Array, *, num_heads: int):
    """The model of `num_terms` terms, or of all if that is 0.

    Returns:
      Its kernel `[F + D, C]`, its bias `[C]`, and the contrasts `[D, 6]` that its last D terms are.
    """
    columns, token = _encode(theta, reading, num_heads)
    task = jnp.concatenate([token, _task_inputs(reading, num_terms)])
    mixture = _mix(theta, reading, task)
    kernel, bias = _correct(theta, reading, mixture, columns, task)
    contrasts = choose_contrasts(reading.dictionary, jax.lax.stop_gradient(kernel))
    kernel = jax.lax.cond(
        num_terms > 0,
        lambda: _sparsify(reading, kernel, bias, contrasts, num_terms),
        lambda: jnp.pad(kernel, ((0, len(contrasts)), (0, 0))),
    )
    temperature = mlp_apply(theta["task"], task[None])[0, 0]
    return jnp.exp(temperature) * kernel, jnp.exp(temperature) * bias, contrasts


def _sparsify(reading: Reading, kernel, bias, contrasts, num_terms: Array) -> Array:
    """The dense model `kernel [F, C]` by `num_terms` terms and contrasts, `[F + D, C]`."""
    p = class_probabilities(reading.terms @ kernel + bias[None], reading.present)
    curvature = jnp.maximum(1.0 - jnp.square(p).sum(axis=1), _LEAST_ROW_WEIGHT)
    row_weights = jax.lax.stop_gradient(curvature) * reading.members.sum(axis=1)
    kernel = say_by_contrasts(reading.dictionary, kernel, contrasts)
    terms = with_contrasts(reading.terms, contrasts)
    return select_terms(kernel, terms, row_weights, num_terms)


def _task_inputs(reading: Reading, num_terms: Array) -> Array:
    """How large the table is, how many terms are asked for, how well the best fit does."""
    rows = jnp.maximum(reading.members.sum(), 1.0)
    ways = reading.present.sum()
    best = _mean_loss(reading).min() / jnp.log(jnp.maximum(ways, 2))
    few = num_terms > 0
    asked = jnp.log2(jnp.maximum(num_terms, 1) / _COMMON_TERMS) * few / _OCTAVES_OF_TERMS
    return jnp.stack(
        [
            jnp.log(rows / _COMMON_ROWS),
            jnp.log(jnp.maximum(reading.used.sum(), 1) / _COMMON_COLUMNS),
            (ways - _FEWEST_CLASSES) / _SPREAD_OF_CLASSES,
            best,
            asked,
            few.astype(rows.dtype),
        ]
    )


def _mean_loss(reading: Reading) -> Array:
    """Loss of each fit on rows left out, `[B]`."""
    return reading.losses.sum(axis=1) / jnp.maximum(reading.members.sum(), 1.0)


def _first_scores(theta: PyTree, reading: Reading) -> Array:
    """What a fit's loss alone says of its weight in the mixture, `[B]`."""
    return -jnp.exp(theta["log_beta"]) * reading.members.sum() * _mean_loss(reading)


def _encode(theta: PyTree, reading: Reading, num_heads: int) -> tuple[Array, Array]:
    num_rows, num_columns = len(reading.terms), len(reading.used)
    cells = reading.terms[:, : TERMS * num_columns].reshape(num_rows, num_columns, TERMS)
    kind = jnp.broadcast_to(reading.categorical[None, :, None], (num_rows, num_columns, 1))
    cells = jnp.concatenate([jnp.clip(cells, -_MOST_CELL, _MOST_CELL), kind], axis=-1)
    weights = jax.lax.stop_gradient(jax.nn.softmax(_first_scores(theta, reading)))
    z = jnp.einsum("b,bsc->sc", weights, reading.bank.left_out)
    p = class_probabilities(z, reading.present)
    right = (p * reading.members).sum(axis=1)
    rows = jnp.stack([2.0 * right - 1.0, 2.0 * p.max(axis=1) - 1.0], axis=-1)
    return encode(theta["encoder"], cells, rows, reading.members, reading.used, num_heads=num_heads)


def _mix(theta: PyTree, reading: Reading, task: Array) -> _Mixture:
    """Weigh the fits, by how they do on rows left out and by what the encoder says."""
    rows = jnp.maximum(reading.members.sum(), 1.0)
    loss = _mean_loss(reading)
    best = jnp.argmin(loss)
    gap = reading.losses - reading.losses[best][None]
    deviation = jnp.sqrt(jnp.square(gap).sum(axis=1) / rows + _DEVIATION_FLOOR)
    deviations = jnp.sqrt(rows) * (loss - loss[best]) / deviation
    fitted = jax.nn.log_softmax(with_absent(reading.bank.logits, reading.present), axis=-1)
    fitted = -(fitted * reading.members[None]).sum(axis=(1, 2)) / rows
    inputs = jnp.stack(
        [
            jnp.minimum(loss - loss[best], _MOST_GAP),
            jnp.minimum(deviations, _MOST_DEVIATIONS) / _DEVIATION_UNIT,
            jnp.minimum(loss - fitted, _MOST_GAP),
            fitted,
            jnp.minimum(loss, _MOST_LOSS),
        ],
        axis=-1,
    )
    inputs = jnp.concatenate([inputs, jnp.eye(_NUM_FITS)], axis=-1)
    inputs = jnp.concatenate([inputs, _repeat(task, _NUM_FITS)], axis=-1)
    scores = _first_scores(theta, reading) + mlp_apply(theta["fit"], inputs)[:, 0]
    pi = jax.nn.softmax(scores)
    return _Mixture(*(jnp.tensordot(pi, leaf, axes=1) for leaf in _models(reading.bank)))


def _models(bank: Bank) -> tuple[Array, Array, Array]:
    return bank.kernels, bank.biases, bank.left_out


def _repeat(row: Array, count: int) -> Array:
    return jnp.broadcast_to(row, (count, len(row)))


def _correct(theta, reading: Reading, mixture: _Mixture, columns: Array, task: Array):
    """Gains of the mixture's weights, and a step along its residuals.

    What the head reads is even in the signs of terms, what it emits multiplies what is odd: the
    sign of a term, which is nobody's choice, plays no part. A term has one gain for all classes.
    """
    rows = jnp.maximum(reading.members.sum(), 1.0)
    p = jax.lax.stop_gradient(class_probabilities(mixture.left_out, reading.present))
    residual = (reading.members - p) * reading.members.sum(axis=1, keepdims=True)
    score = reading.terms.T @ residual / rows
    step = score / jnp.sqrt(p.mean(axis=0) * (1.0 - p.mean(axis=0)) + _LEAST_VARIANCE)[None]
    views = reading.bank.kernels.reshape(NUM_VIEWS, len(PENALTIES), *mixture.kernel.shape)
    squares = [
        mixture.kernel**2,
        rows * step**2 * _STEP_SCALE,
        *jnp.square(views[:, 1]),
    ]
    sizes = jnp.stack([jnp.sqrt(each.mean(axis=1) + _SIZE_FLOOR) for each in squares], axis=-1)
    product = squares[0].sum(axis=1) * jnp.square(score).sum(axis=1)
    agreement = (mixture.kernel * score).sum(axis=1) * jax.lax.rsqrt(product + _PRODUCT_FLOOR)
    live = jnp.square(reading.terms).sum(axis=0) / rows
    inputs = jnp.concatenate([jnp.tanh(sizes), agreement[:, None], live[:, None]], axis=-1)
    gain, along = _term_head(theta, inputs, columns, task).T
    kernel = jnp.exp(gain)[:, None] * mixture.kernel + along[:, None] * step
    mean = jnp.where(reading.present, kernel, 0.0).sum(axis=1, keepdims=True)
    kernel = jnp.where(reading.present, kernel - mean / reading.present.sum(), 0.0)
    return kernel, mixture.bias


def _term_head(theta, inputs: Array, columns: Array, task: Array) -> Array:
    """Two numbers a term, `[F, 2]`, from its own inputs, its column's token and its place."""
    column, place = term_columns(len(columns), len(inputs) - TERMS * len(columns))
    tokens = jnp.concatenate([columns, theta["bump"][None]])
    # Hinges and levels share places; the column's token tells which of them they are.
    tokens = tokens[column] + theta["place"][place]
    inputs = jnp.concatenate([inputs, tokens, _repeat(task, len(inputs))], axis=-1)
    return mlp_apply(theta["term"], inputs)
