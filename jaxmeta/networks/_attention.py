"""Attention over a set of rows, some of which may be padding."""

import jax
import jax.numpy as jnp

from jaxmeta._precision import as_one_dtype, wide
from jaxmeta.types import Array


def attend(
    queries: Array,
    keys: Array,
    values: Array,
    mask: Array,
    *,
    num_heads: int,
    bias: Array | None = None,
) -> Array:
    """Multi-head attention: in each head, `softmax(q k^T / sqrt(E / H) + bias) v`.

    Args:
      queries: `[N, E]`; head h reads the h-th of H equal blocks of columns.
      keys: `[S, E]`.
      values: `[S, V]`, finite where padded too.
      mask: `[S]`, bool; False for rows that nobody reads.
      num_heads: heads H, which divide E and V.
      bias: what to add to the scores, `[H, N, S]`; None for nothing.

    Returns:
      What each query read, `[N, V]`; the softmax is computed in float32 at least.

    References:
      Vaswani et al., Attention is all you need, arXiv:1706.03762.
    """
    queries, keys = as_one_dtype(queries, keys)
    q, k, v = (
        rows.reshape(rows.shape[0], num_heads, rows.shape[1] // num_heads)
        for rows in (queries, keys, values)
    )
    scores = jnp.einsum("nhe,she->hns", q, k) / q.shape[-1] ** 0.5
    scores = wide(scores)
    if bias is not None:
        scores = scores + bias
    # A row that must not be read has a weight of exactly zero, and so is its gradient.
    weights = jax.nn.softmax(scores, axis=-1, where=mask[None, None])
    weights, v = as_one_dtype(weights, v)
    return jnp.einsum("hns,shv->nhv", weights, v).reshape(queries.shape[0], values.shape[1])
