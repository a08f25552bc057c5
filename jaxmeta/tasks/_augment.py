"""Maps of images: the symmetries of the square, and small affine jitter."""

import jax
import jax.numpy as jnp

from jaxmeta.types import Array


def orient(x: Array, orientation: Array) -> Array:
    """`x [N, H, W, 1]` in one of the square's 8 orientations: quarter turns, from 4 on mirrored."""
    x = jnp.where(orientation < 4, x, x[:, :, ::-1])
    turned = [jnp.rot90(x, k, axes=(1, 2)) for k in range(4)]
    return jnp.select([orientation % 4 == k for k in range(4)], turned)


def affine_jitter(key: Array, x: Array, strength: float) -> Array:
    """A random affine map of each image of `x [N, H, W, 1]`, bilinear, paper (0) outside.

    A strength of 1 turns by up to 0.2 radians, scales and shears by up to 0.2 and shifts by up to
    2 pixels.
    """
    num, height, width = x.shape[:3]
    turn_key, scale_key, shear_key, shift_key = jax.random.split(key, 4)
    reach = 0.2 * strength
    angle = jax.random.uniform(turn_key, (num,), minval=-reach, maxval=reach)
    scale = jnp.exp(jax.random.uniform(scale_key, (num, 2), minval=-reach, maxval=reach))
    shear = jax.random.uniform(shear_key, (num,), minval=-reach, maxval=reach)
    shift = 10.0 * jax.random.uniform(shift_key, (num, 2), minval=-reach, maxval=reach)

    cos, sin = jnp.cos(angle), jnp.sin(angle)
    matrix = jnp.stack(
        [cos * scale[:, 0], shear - sin * scale[:, 1], sin * scale[:, 0], cos * scale[:, 1]], -1
    ).reshape(num, 2, 2)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    axes = (jnp.arange(size, dtype=centre.dtype) for size in (height, width))
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    places = jnp.einsum("nij,hwj->nihw", matrix, grid - centre[None, None])
    places = places + (shift + centre[None])[:, :, None, None]

    def warp(image: Array, place: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(image, list(place), order=1)

    return jax.vmap(warp)(x[..., 0], places)[..., None]
