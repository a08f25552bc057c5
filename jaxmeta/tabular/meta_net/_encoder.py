"""The encoder: rows and columns of the support table attend in turn.

A token for each row, a token for each column, and in between one cell for each value. A layer

    v_id = gelu(cell_id + A r_i + B t_d)             what row i says in column d
    t_d += attention of the column over its rows, and the spread of class means of v_id over classes
    r_i += attention of the row over its columns
    t   += self-attention of the columns;   r += self-attention of the rows

Nothing tells the place of a row, a column or a class. Labels come in through the class means,
through the scores of two rows of the same class, and through how well the bank says each row's
class when the row is left out.
"""

import jax
import jax.numpy as jnp

from jaxmeta.networks._attention import attend
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.tabular._arrays import TERMS
from jaxmeta.types import Array, PyTree

_ROW_INPUTS = 2
_NEVER = -1e30


def encoder_init(key: Array, *, size: int, cell_size: int, num_layers: int, num_heads: int):
    """Parameters of the encoder; what a layer adds starts small."""
    keys = jax.random.split(key, 2 + num_layers)
    return {
        "cell": dense_init(keys[0], TERMS + 1, cell_size, gain=1.0),
        "row": dense_init(keys[1], _ROW_INPUTS, size, gain=1.0),
        "column": jnp.zeros(size),
        "layers": [_layer_init(each, size, cell_size, num_heads) for each in keys[2:]],
    }


def _unit_rms(x: Array) -> Array:
    """`networks.base.unit_rms` for tokens, which are of order one and cannot overflow.

    The general one rounds otherwise, and what the shipped weights predict is to stay, to the bit.
    """
    return x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + 1e-6)


def _layer_init(key: Array, size: int, cell_size: int, num_heads: int) -> PyTree:
    keys = jax.random.split(key, 11)
    pooled = num_heads * cell_size
    return {
        "of_row": dense_init(keys[0], size, cell_size, gain=1.0),
        "of_column": dense_init(keys[1], size, cell_size, gain=1.0),
        "row_score": dense_init(keys[2], cell_size, num_heads, gain=1.0),
        "column_score": dense_init(keys[3], cell_size, num_heads, gain=1.0),
        "to_row": dense_init(keys[4], pooled, size, gain=0.3),
        "to_column": dense_init(keys[5], pooled + cell_size, size, gain=0.3),
        "row_qkv": dense_init(keys[6], size, 3 * size, gain=1.0),
        "row_out": dense_init(keys[7], size, size, gain=0.3),
        "column_qkv": dense_init(keys[8], size, 3 * size, gain=1.0),
        "column_out": dense_init(keys[9], size, size, gain=0.3),
        "same_class": jax.random.normal(keys[10], (num_heads,)),
    }


def encode(
    params: PyTree,
    cells: Array,
    rows: Array,
    members: Array,
    used: Array,
    *,
    num_heads: int,
) -> tuple[Array, Array]:
    """Tokens of the columns `[D, E]` and of the task `[E]`.

    Args:
      params: of `encoder_init`.
      cells: terms of the columns, and whether the column is categorical, `[S, D, 8]`.
      rows: what is known of each row `[S, 2]`.
      members: class membership `[S, C]`, zeros where padded.
      used: which columns the table has, bool `[D]`.
      num_heads: heads H of every attention.
    """
    real = members.sum(axis=1) > 0
    cells = dense(params["cell"], cells)
    r = dense(params["row"], rows)
    t = jnp.broadcast_to(params["column"], (cells.shape[1], r.shape[1]))
    for layer in params["layers"]:
        r, t = _layer(layer, cells, r, t, members, real, used, num_heads)
    share = real[:, None] / jnp.maximum(real.sum(), 1)
    return _unit_rms(t), _unit_rms((_unit_rms(r) * share).sum(axis=0))


def _layer(layer, cells, r, t, members, real, used, num_heads: int) -> tuple[Array, Array]:
    of_row = dense(layer["of_row"], _unit_rms(r))[:, None]
    of_column = dense(layer["of_column"], _unit_rms(t))[None]
    v = jax.nn.gelu(cells + of_row + of_column)
    by_rows = _pool(dense(layer["column_score"], v), v, real[:, None, None], axis=0)
    t = t + dense(layer["to_column"], jnp.concatenate([by_rows, _class_spread(v, members)], -1))
    by_columns = _pool(dense(layer["row_score"], v), v, used[None, :, None], axis=1)
    r = r + dense(layer["to_row"], by_columns)
    same = jnp.einsum("sc,tc->st", members, members)
    bias = layer["same_class"][:, None, None] * same[None]
    r = r + _self_attention(layer["row_qkv"], layer["row_out"], r, real, num_heads, bias)
    t = t + _self_attention(layer["column_qkv"], layer["column_out"], t, used, num_heads, None)
    return r, t


def _pool(scores: Array, v: Array, mask: Array, axis: int) -> Array:
    """Each head's average of `v [S, D, G]` over rows (axis 0) or columns (axis 1): `[., H G]`."""
    weights = jax.nn.softmax(jnp.where(mask, scores, _NEVER), axis=axis)
    pooled = jnp.einsum("sdh,sdg->dhg" if axis == 0 else "sdh,sdg->shg", weights, v)
    return pooled.reshape(len(pooled), -1)


def _class_spread(v: Array, members: Array) -> Array:
    """Standard deviation over the classes of the class means of `v [S, D, G]`: `[D, G]`."""
    counts = members.sum(axis=0)
    means = jnp.einsum("sc,sdg->cdg", members / jnp.maximum(counts, 1.0)[None], v)
    present = (counts > 0)[:, None, None]
    number = jnp.maximum((counts > 0).sum(), 1)
    centre = jnp.where(present, means, 0.0).sum(axis=0, keepdims=True) / number
    square = jnp.where(present, jnp.square(means - centre), 0.0).sum(axis=0) / number
    return jnp.sqrt(square + 1e-6)


def _self_attention(qkv, out, tokens: Array, mask: Array, num_heads: int, bias) -> Array:
    queries, keys, values = jnp.split(dense(qkv, _unit_rms(tokens)), 3, axis=-1)
    read = attend(queries, keys, values, mask, num_heads=num_heads, bias=bias)
    return dense(out, read)
