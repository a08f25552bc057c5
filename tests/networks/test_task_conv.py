"""`networks.task_conv` against NumPy, finite differences, and under every transformation."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxmeta.networks import task_conv
from tests import references

FORMULATIONS = (None, "loop", "grouped", "patches")
# x, kernel, strides, padding, dilation of x, dilation of the kernel
SHAPES = [
    ((2, 5, 5, 1), (3, 3, 1, 2), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    ((1, 4, 5, 3), (3, 3, 3, 1), (1, 1), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    ((3, 4, 4, 2), (1, 1, 2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    ((2, 5, 4, 9), (3, 2, 9, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    ((2, 6, 5, 8), (2, 3, 8, 2), (1, 1), ((0, 1), (1, 1)), (1, 1), (1, 1)),
    ((2, 6, 6, 2), (3, 3, 2, 2), (2, 2), ((1, 1), (1, 1)), (1, 1), (1, 1)),
    ((2, 7, 6, 2), (3, 3, 2, 2), (2, 1), ((0, 0), (1, 1)), (1, 1), (1, 1)),
    ((1, 8, 7, 1), (5, 5, 1, 2), (2, 2), ((2, 2), (1, 2)), (1, 1), (1, 1)),
    ((1, 7, 7, 2), (2, 2, 2, 1), (3, 2), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    ((1, 7, 6, 2), (3, 2, 2, 2), (1, 1), ((2, 2), (1, 1)), (1, 1), (2, 2)),
    ((1, 8, 7, 2), (3, 3, 2, 1), (2, 3), ((2, 2), (2, 1)), (1, 1), (2, 1)),
    ((2, 3, 4, 2), (3, 3, 2, 2), (1, 1), ((1, 1), (2, 2)), (2, 2), (1, 1)),
    ((1, 4, 3, 2), (3, 2, 2, 2), (2, 1), ((2, 1), (1, 1)), (3, 2), (1, 1)),
    ((1, 4, 4, 1), (2, 3, 1, 2), (1, 2), ((2, 2), (1, 2)), (2, 1), (2, 2)),
    ((1, 6, 6, 2), (3, 3, 2, 2), (1, 1), ((-1, 1), (0, -2)), (1, 1), (1, 1)),
    ((1, 3, 3, 2), (3, 3, 2, 2), (1, 1), ((4, 3), (3, 4)), (1, 1), (1, 1)),
    ((3, 7, 2), (3, 2, 3), (2,), ((1, 1),), (1,), (1,)),
    ((2, 6, 9), (4, 9, 2), (1,), ((3, 0),), (1,), (1,)),
    ((2, 5, 1), (2, 1, 2), (1,), ((1, 1),), (2,), (3,)),
    ((1, 3, 4, 3, 2), (2, 2, 2, 2, 2), (1, 2, 1), ((1, 0), (0, 1), (0, 0)), (1,) * 3, (1,) * 3),
]
CASES = [pytest.param(*shape, FORMULATIONS[i % 4], id=str(i)) for i, shape in enumerate(SHAPES)]
RNG = np.random.default_rng(0)
# Every formulation, strides, both dilations, a cropped edge and one dimension.
ALWAYS = (0, 1, 5, 9, 11, 14, 16)
SOME_CASES = [
    pytest.param(*case.values, id=case.id, marks=() if int(case.id) in ALWAYS else pytest.mark.slow)
    for case in CASES
]


def operands(*shapes):
    return [jnp.asarray(RNG.normal(size=shape)) for shape in shapes]


def conv_by(x, kernel, settings, formulation):
    return task_conv(x, kernel, *settings, formulation=formulation)


def dot(a, b):
    return sum(jnp.vdot(p, q) for p, q in zip(a, b, strict=True))


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), got, want)


@pytest.mark.parametrize("case", SHAPES, ids=range(len(SHAPES)))
def test_it_is_the_sum_that_numpy_makes(x64, case):
    *shapes, strides, padding, input_dilation, kernel_dilation = case
    x, kernel = operands(*((2, *shape) for shape in shapes))
    settings = (strides, padding, input_dilation, kernel_dilation)
    each = [[references.convolution(a, k, *settings) for k in kernel] for a in x]

    @jax.jit
    def compute(x, kernel):
        results = []
        for formulation in FORMULATIONS:
            conv = functools.partial(conv_by, settings=settings, formulation=formulation)
            results += [
                conv(x[0], kernel[0])[None],
                jax.vmap(conv)(x, kernel),
                jax.vmap(conv, (0, None))(x, kernel[1]),
                jax.vmap(conv, (None, 0))(x[1], kernel),
            ]
        return results

    want = [each[0][:1], [each[0][0], each[1][1]], [each[0][1], each[1][1]], each[1]]
    close(compute(x, kernel), [np.stack(w) for w in want] * len(FORMULATIONS))


@pytest.mark.parametrize(
    ("x", "kernel", "strides", "padding", "input_dilation", "kernel_dilation", "formulation"),
    SOME_CASES,
)
def test_derivatives_are_those_of_finite_differences(
    x64, x, kernel, strides, padding, input_dilation, kernel_dilation, formulation
):
    """First, second and mixed, one kernel for two tasks and one for each."""
    settings = (strides, padding, input_dilation, kernel_dilation)

    for axes, shapes in (((0, None), ((2, *x), kernel)), ((0, 0), ((2, *x), (2, *kernel)))):

        def function(given, axes=axes):
            # Not bilinear, so that second derivatives have something to say.
            y = jax.vmap(
                functools.partial(conv_by, settings=settings, formulation=formulation), axes
            )
            return jnp.sin(y(*jax.tree.map(jnp.sin, given))).sum()

        @jax.jit
        def compute(given, along, function=function):
            grad = jax.grad(function)
            slope = lambda given: jax.jvp(function, (given,), (along,))[1]  # noqa: E731
            second = {
                "forward over reverse": jax.jvp(grad, (given,), (along,))[1],
                "reverse over forward": jax.grad(slope)(given),
                "reverse over reverse": jax.grad(lambda given: dot(grad(given), along))(given),
            }
            return function(given), grad(given), slope(given), second

        given, along, step = operands(*shapes), operands(*shapes), 1e-5
        (above, grad_above, *_), (below, grad_below, *_) = (
            compute([z + t * v for z, v in zip(given, along, strict=True)], along)
            for t in (step, -step)
        )
        _, grad, slope, second = compute(given, along)
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(dot(grad, along), slope, rtol=1e-10)
        want = [(a - b) / (2 * step) for a, b in zip(grad_above, grad_below, strict=True)]
        for got in second.values():
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), got, want
            )


@pytest.mark.parametrize("case", [SHAPES[0], SHAPES[10]], ids=["plain", "strided"])
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_vmap_is_a_loop_over_gradients_of_gradients(x64, case, formulation):
    *shapes, strides, padding, input_dilation, kernel_dilation = case
    settings = (strides, padding, input_dilation, kernel_dilation)

    def second(x, kernel):
        def first(x, kernel):
            return jnp.sin(conv_by(x, kernel, settings, formulation)).sum()

        return jax.grad(lambda x, k: jnp.cos(jax.grad(first, 1)(x, k)).sum(), (0, 1))(x, kernel)

    x, kernel = operands(*((2, *shape) for shape in shapes))
    alone = [[jax.jit(second)(a, k) for k in kernel] for a in x]
    stack = lambda *trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
    close(jax.jit(jax.vmap(second))(x, kernel), stack(alone[0][0], alone[1][1]))
    both = jax.vmap(jax.vmap(second, (None, 0)), (0, None))
    close(jax.jit(both)(x, kernel), stack(*(stack(*row) for row in alone)))
    looped = jax.lax.map(lambda pair: jax.checkpoint(second)(*pair), (x, kernel))
    close(looped, stack(alone[0][0], alone[1][1]))


def test_low_precision_stays_low_and_mixed_operands_are_promoted():
    x, kernel = operands((2, 5, 5, 3), (3, 3, 3, 4))
    want = task_conv(x, kernel)
    low = task_conv(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(np.float32), want, rtol=0.1, atol=0.1)
    assert task_conv(x.astype(jnp.bfloat16), kernel.astype(jnp.float32)).dtype == jnp.float32
    grads = jax.grad(lambda k: task_conv(x.astype(k.dtype), k).sum())(kernel.astype(jnp.bfloat16))
    assert grads.dtype == jnp.bfloat16


def test_a_linen_module_convolves_by_it():
    (x,) = operands((2, 6, 6, 3))
    plain = nn.Conv(4, (3, 3), strides=2)
    ours = nn.Conv(4, (3, 3), strides=2, conv_general_dilated=task_conv)
    params = plain.init(jax.random.key(0), x)
    np.testing.assert_allclose(ours.apply(params, x), plain.apply(params, x), rtol=1e-4, atol=1e-5)


def test_mistakes_are_named():
    x, kernel = operands((2, 5, 5, 3), (3, 3, 3, 4))
    with pytest.raises(ValueError, match=r"x \[N, \*spatial, C\]"):
        task_conv(x, kernel[:, :, :2])
    with pytest.raises(ValueError, match="feature_group_count=3"):
        task_conv(x, kernel, feature_group_count=3)
    with pytest.raises(ValueError, match="channels-last"):
        task_conv(x, kernel, dimension_numbers=("NCHW", "OIHW", "NCHW"))
    with pytest.raises(ValueError, match="formulation is one of"):
        task_conv(x, kernel, formulation="fft")
    with pytest.raises(ValueError, match="each of 2 axes"):
        task_conv(x, kernel, (1,))


ON_TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxmeta.networks import task_conv

def loss(x, kernel):
    inner = jax.grad(lambda k: jnp.sin(task_conv(x, k)).sum())(kernel)
    return jnp.cos(task_conv(x, kernel - 0.1 * inner)).sum()

rng = np.random.default_rng(0)
x, kernel = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3, 6, 6, 2), (3, 3, 2, 4)))
mean = lambda kernel, x: jax.vmap(loss, (0, None))(x, kernel).mean()
want = jax.jit(jax.grad(mean))(kernel, x)
mesh = jax.make_mesh((2,), ("tasks",), axis_types=(AxisType.Auto,))
placed = jax.device_put(x, NamedSharding(mesh, P("tasks")))
sharded = jax.jit(jax.grad(mean))(kernel, placed)
def across(kernel, x):
    # Each device's own: else the inner gradient would be summed over devices.
    kernel = jax.lax.pcast(kernel, "tasks", to="varying")
    return jax.lax.pmean(mean(kernel, x), "tasks")
mapped = jax.shard_map(jax.grad(across), mesh=mesh, in_specs=(P(), P("tasks")), out_specs=P())
per_device = jax.pmap(
    lambda x: jax.lax.pmean(jax.grad(mean)(kernel, x), "tasks"), axis_name="tasks"
)(x[:, None])[0]
for got in (sharded, jax.jit(mapped)(kernel, x), per_device):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
print("equal")
"""


def test_two_devices_are_one():
    """By sharding, by shard_map and by pmap; in a process that has two devices."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "NPROC": "16"}
    flags["JAX_PLATFORMS"] = "cpu"  # Which has two devices wherever the test runs.
    run = functools.partial(subprocess.run, capture_output=True, text=True, timeout=300)
    done = run([sys.executable, "-c", ON_TWO_DEVICES], env={**os.environ, **flags})
    assert done.returncode == 0 and done.stdout.strip() == "equal", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("platform", "channels", "convolutions"),
    [("cpu", 1, 1), ("cpu", 8, 2), ("cuda", 3, 0), ("cuda", 4, 2), ("tpu", 1, 2)],
)
def test_each_platform_has_a_formulation_of_its_own(platform, channels, convolutions):
    """A matrix product of patches is no convolution: neither forward nor for the kernel."""
    x, kernel = jnp.ones((2, 3, 5, 5, channels)), jnp.ones((2, 3, 3, channels, 4))
    value_and_grad = jax.value_and_grad(lambda k: jax.vmap(task_conv)(x, k).sum())
    lowered = jax.jit(value_and_grad).trace(kernel).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("stablehlo.convolution") == convolutions
