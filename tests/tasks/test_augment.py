"""Maps of images: what jitter does is recovered from what it makes of ramps."""

import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxmeta.datasets import ImageClasses
from jaxmeta.tasks import episodes
from jaxmeta.tasks._augment import affine_jitter

KEY = jax.random.split(jax.random.key(0), 300)[0]
jitter = jax.jit(affine_jitter)


def recover_maps(key, num, side, strength):
    """The affine maps `[N, 2, 3]` and the places read `[N, 2, H, W]`: a warped ramp is a place."""
    ramps = np.mgrid[:side, :side].astype(np.float32)
    grid = np.stack([*(ramps - (side - 1) / 2), np.ones((side, side))]).reshape(3, -1)
    inner = grid[:, np.abs(grid[:2]).max(0) < side / 4]  # read from within, whatever the map
    sheets = np.broadcast_to(ramps[:, None, ..., None], (2, num, side, side, 1))
    warped = np.stack([jitter(key, sheet, strength) for sheet in sheets], 1).reshape(num, 2, -1)
    warped = warped[:, :, np.abs(grid[:2]).max(0) < side / 4]
    maps = np.stack([np.linalg.lstsq(inner.T, rows.T, rcond=None)[0].T for rows in warped])
    np.testing.assert_allclose(maps @ inner, warped, atol=1e-3)
    return maps, (maps @ grid).reshape(num, 2, side, side)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_jitter_is_an_affine_map_with_paper_outside(strength):
    num, side = 40, 20
    maps, places = recover_maps(KEY, num, side, strength)
    (a, b, _), (c, d, _) = maps.transpose(1, 2, 0)
    angle, stretch = np.arctan2(c, a), d / np.cos(np.arctan2(c, a))
    shear, shift = b + np.sin(angle) * stretch, maps[:, :, 2] - (side - 1) / 2
    for size in (angle, np.log(np.hypot(a, c)), np.log(stretch), shear, shift / 10):
        assert 0.15 * strength <= np.abs(size).max() < 0.2 * strength + 1e-4
    x = np.random.default_rng(0).uniform(size=(num, side, side)).astype(np.float32)
    warp = functools.partial(ndimage.map_coordinates, order=1, mode="grid-constant")
    want = np.stack(list(map(warp, x, places))) if strength else x
    got = jitter(KEY, x[..., None], strength)[..., 0]
    np.testing.assert_allclose(got, want, atol=1e-3 if strength else 1e-5)


def test_jitter_moves_pixels_and_keeps_the_task_and_the_ink():
    images = np.zeros((4, 4, 28, 28), np.uint8)
    images[:, :, 8:20, 11:17] = 200
    data = ImageClasses(images, np.full(4, 4), np.zeros(4, np.int32), ("g",), tuple("abcd"))
    sampler = functools.partial(episodes, data, ways=3, queries=3)
    still, moved = (jax.jit(sampler(jitter=size))(KEY).query for size in (0.0, 1.0))
    for a, b in zip(moved[1:], still[1:], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    difference = np.abs(moved.x - still.x).sum((1, 2, 3))
    ink = moved.x.sum((1, 2, 3)) / still.x.sum((1, 2, 3))
    assert difference.min() > 1 and len(np.unique(difference.round(3))) == 9  # each its own map
    assert ink.min() > 0.55 and ink.max() < 1.8 and abs(ink.mean() - 1) < 0.2
