"""Every check at the public boundary, by its message, and its silence under tracing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmeta._validation import check_examples, check_positive, check_task
from jaxmeta.types import Examples, Task

ROWS = Examples(np.ones((3, 2), np.float32), np.array([0, 1, 2]), np.ones(3, np.float32))
NAN = np.where(np.arange(6).reshape(3, 2) == 1, np.nan, 1.0).astype(np.float32)
TARGETS = np.array([[0.0], [np.inf], [0.0]], np.float32)

BAD_SHAPES = {
    "inputs of one axis": (ROWS._replace(x=np.ones(3, np.float32)), "reshape x to"),
    "a batch of tasks": (Examples(*(leaf[None] for leaf in ROWS)), "use jax.vmap"),
    "labels of three axes": (ROWS._replace(y=np.ones((3, 1, 1), int)), r"\(3, 1, 1\)"),
    "too few labels": (ROWS._replace(y=np.array([0, 1])), "unequal numbers of rows: .*'y': 2"),
    "too long a mask": (ROWS._replace(mask=np.ones(4)), "unequal numbers of rows: .*'mask': 4"),
    "no rows": (Examples(*(leaf[:0] for leaf in ROWS)), "is empty"),
    "integer inputs": (ROWS._replace(x=np.ones((3, 2), np.uint8)), "uint8.*floating point"),
    "fractional classes": (ROWS._replace(y=np.ones(3, np.float32)), "float32; classes are integ"),
}
BAD_VALUES = {
    "no real rows": (ROWS._replace(mask=np.zeros(3)), "mask is 0 in all 3 rows"),
    "NaN inputs": (ROWS._replace(x=NAN), "inputs hold 1 values that are NaN or infinite"),
    "infinite inputs": (ROWS._replace(x=ROWS.x * np.inf), "inputs hold 6 values"),
    "infinite targets": (ROWS._replace(y=TARGETS), "targets hold NaN or infinite"),
    "negative classes": (ROWS._replace(y=np.array([0, -1, 2])), "run from -1 to 2, .* 0 or more"),
}


@pytest.mark.parametrize("name", BAD_SHAPES | BAD_VALUES)
def test_a_mistake_is_a_sentence_that_names_the_set(name):
    examples, message = (BAD_SHAPES | BAD_VALUES)[name]
    for convert in (lambda tree: tree, lambda tree: jax.tree.map(jnp.asarray, tree)):
        with pytest.raises(ValueError, match=message):
            check_examples(convert(examples))
    with pytest.raises(ValueError, match="The dinner (set|inputs|targets|labels) "):
        check_examples(examples, "dinner")


@pytest.mark.parametrize("name", BAD_SHAPES)
def test_shapes_are_checked_under_jit_too(name):
    examples, message = BAD_SHAPES[name]
    with pytest.raises(ValueError, match=message):
        jax.jit(check_examples)(examples)


@pytest.mark.parametrize("transform", [jax.jit, lambda f: jax.vmap(f, axis_size=2, in_axes=None)])
def test_well_formed_rows_pass_inside_and_outside_of_a_trace(transform):
    def use(examples):
        check_examples(examples, ways=3)
        return examples.x.sum()

    assert use(ROWS) == 6.0
    np.testing.assert_array_equal(transform(use)(ROWS), 6.0)


def test_values_are_not_looked_at_under_vmap_and_grad():
    def loss(x):
        check_examples(ROWS._replace(x=x))
        return jnp.nan_to_num(x).sum()

    np.testing.assert_array_equal(jax.vmap(loss)(NAN[None]), [5.0])
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(NAN).shape, NAN.shape)


def test_classes_beyond_the_ways_are_refused():
    check_examples(ROWS, ways=3)
    with pytest.raises(ValueError, match=r"in 0\.\.1 \(ways=2\)"):
        check_examples(ROWS, ways=2)


def test_padded_rows_are_never_looked_at():
    rows = Examples(
        np.array([[1.0], [np.nan], [np.inf]], np.float32),
        np.array([0, -1, 99]),
        np.array([1, 0, 0]),
    )
    check_examples(rows, ways=1)
    check_examples(rows._replace(y=np.array([[0.0], [np.nan], [np.inf]])))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_inputs_are_floating_point(dtype):
    check_examples(ROWS._replace(x=jnp.ones((3, 2), dtype)))


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_masks_of_any_kind_are_read(dtype):
    check_examples(ROWS._replace(mask=np.ones(3, dtype)))
    with pytest.raises(ValueError, match="is empty"):
        check_examples(ROWS._replace(mask=np.zeros(3, dtype)))


def test_a_task_is_checked_in_both_sets_and_between_them():
    check_task(Task(ROWS, ROWS))
    with pytest.raises(ValueError, match="The support inputs"):
        check_task(Task(ROWS._replace(x=NAN), ROWS))
    with pytest.raises(ValueError, match="The query inputs"):
        check_task(Task(ROWS, ROWS._replace(x=NAN)))
    with pytest.raises(ValueError, match=r"\(2,\), query rows \(5,\); they must be alike"):
        check_task(Task(ROWS, ROWS._replace(x=np.ones((3, 5), np.float32))))


@pytest.mark.parametrize("count", [0, -3])
def test_counts_below_one_are_refused_by_name(count):
    check_positive(shots=1, ways=5)
    with pytest.raises(ValueError, match=f"ways must be 1 or more, got {count}"):
        check_positive(shots=1, ways=count)
