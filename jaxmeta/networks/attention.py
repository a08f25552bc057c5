"""Attention over a set of rows, some of which may be padding."""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array

# The score of a row that must not be read: its weight is an exact zero, and so is its gradient.
_NEVER = -1e30


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
    q, k, v = (rows.reshape(len(rows), num_heads, -1) for rows in (queries, keys, values))
    scores = jnp.einsum("nhe,she->hns", q, k) / q.shape[-1] ** 0.5
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, _NEVER), axis=-1)
    return jnp.einsum("hns,shv->nhv", weights, v).reshape(len(queries), -1)
