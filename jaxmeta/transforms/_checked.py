"""`checked`: the same learner, whose functions say by name what is wrong with what they return.

For functions of your own, while they are written. Structures, shapes and dtypes are looked at
wherever a function is called or traced. Values are looked at where they are known, and, under
`jit`, `vmap` and `grad`, where the whole is run through `checkify`:

    mine = transforms.checked(mine, name="mine")
    step = make_step(meta_objective(mine, transforms.checked_loss(my_loss, name="mine")), tx)
    error, (state, metrics) = checkify.checkify(jax.jit(step))(state, tasks)
    error.throw()

Otherwise the compiled program is the one without checks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from jaxmeta._jax_compat import is_concrete
from jaxmeta._validation import (
    check_examples,
    check_inputs,
    check_labels,
    check_task,
    is_known,
    labels_alone,
    violations,
)
from jaxmeta.types import Array, Examples, MetaLearner, PyTree, Task, TaskLoss


def checked(learner: MetaLearner, *, name: str) -> MetaLearner:
    """Check everything that goes in and out of a learner's three functions.

    Args:
      learner: the learner to wrap; theta is that of the learner itself.
      name: what to call it in the messages.

    Returns:
      A learner whose functions raise ValueError with the name of the learner and of the function:
      `init` and `adapt` if they return something else than arrays, or numbers that are not finite;
      `adapt` also if theta is not what `init` returns, or the support set is malformed; `predict`
      if it does not return floating-point `z [N, C]` for `x [N, ...]`, or not finite ones. What
      the functions raise themselves is given their name as a note.

    Raises:
      ValueError: by the functions that are returned, as above, while they run or are traced.

    Example:
      >>> import jax
      >>> from jaxmeta import learners, networks, tasks, transforms
      >>> mine = learners.prototypes(networks.mlp([8]), ways=2)
      >>> learner = transforms.checked(mine, name="mine")
      >>> task = tasks.two_tasks(shots=10)(jax.random.key(0))
      >>> w = learner.adapt(learner.init(jax.random.key(1), task), task.support)
    """

    def init(key: Array, task: Task) -> PyTree:
        at = f"{name}.init"
        _named(at, check_task, task)
        return _checked_arrays(at, "theta", _named(at, learner.init, key, task))

    def adapt(
        theta: PyTree, support: Examples, *, description: PyTree = None, key: Array | None = None
    ) -> PyTree:
        at = f"{name}.adapt"
        _named(at, check_examples, support, takes_integers=True)
        _check_traced(at, "support", support)
        task = Task(support, support, description)
        _check_theta(at, theta, jax.eval_shape(learner.init, jax.random.key(0), task))
        w = _named(at, learner.adapt, theta, support, description=description, key=key)
        return _checked_arrays(at, "w", w)

    def predict(theta: PyTree, w: PyTree, x: Array) -> Array:
        at = f"{name}.predict"
        _named(at, check_inputs, x, takes_integers=True)
        if not is_known(x):
            message = f"{at} was given x with values that are NaN or infinite."
            checkify.debug_check(jnp.isfinite(x).all(), message)
        z = _checked_arrays(at, "z", _named(at, learner.predict, theta, w, x))
        if jnp.ndim(z) != 2 or z.shape[0] != x.shape[0]:
            raise ValueError(
                f"{at} returned z of shape {jnp.shape(z)} for x {jnp.shape(x)}; it has to be "
                f"[{x.shape[0]}, C], a row of logits or targets for each row of x."
            )
        if not jnp.issubdtype(z.dtype, jnp.floating):
            raise ValueError(
                f"{at} returned z of dtype {z.dtype}; logits and targets are floating point "
                "(not the number of the class, which has no gradient)."
            )
        return z

    return MetaLearner(init, adapt, predict)


def checked_loss(task_loss: TaskLoss, *, name: str) -> TaskLoss:
    """A task loss that raises ValueError unless it returns one finite number.

    Args:
      task_loss: `(z, y, mask) -> scalar`; penalties, which take `w` alone, may be wrapped too.
        Of classes y it is checked as well that they are columns of z.
      name: what to call the learner in the messages.

    Returns:
      A task loss that gives what `task_loss` gives.

    Raises:
      ValueError: by the loss that is returned, for what is no finite number, and for classes that
        are no columns of z.

    Example:
      >>> from jaxmeta import losses, transforms
      >>> loss = transforms.checked_loss(losses.cross_entropy, name="mine")
    """
    at = f"{name}.loss"

    def loss(*args: Any) -> Array:
        if len(args) == 3 and jnp.ndim(args[1]) == 1:
            z, y, mask = args
            _named(at, check_labels, z, y, mask, name="the loss")
            _check_traced(at, "query", labels_alone(y, mask), z.shape[1])
        value = _checked_arrays(at, "the loss", _named(at, task_loss, *args))
        if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise ValueError(
                f"{at} returned {jnp.result_type(value)}{list(jnp.shape(value))}; a loss is one "
                "floating-point number: the mean over the rows whose mask is 1."
            )
        return value

    return loss


_RULES = {
    "mask": "mask that holds other numbers than 1, a real row, and 0, padding",
    "empty": "set that is empty: its mask is 0 in all rows",
    "inputs": "inputs that are NaN or infinite",
    "targets": "targets that are NaN or infinite",
    "labels": "labels that are no class",
}


def _check_traced(at: str, what: str, rows: Examples, ways: int | None = None) -> None:
    """What `check_examples` says of values that are known, where they are not: by `checkify`."""
    if is_known(rows):
        return
    for rule, broken in violations(rows, ways).items():
        checkify.debug_check(~broken.any(), f"{at} was given a {what} {_RULES[rule]}.")


def _named(at: str, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call, and note on what is raised whose fault it is."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error
    except Exception as error:
        error.add_note(f"(in {at})")
        raise


def _check_theta(at: str, theta: PyTree, expected: PyTree) -> None:
    """Raise ValueError unless the leaves of theta are called and shaped as expected."""
    given, wanted = _shapes(theta), _shapes(expected)
    if given != wanted:
        differ = sorted(leaf for leaf in given | wanted if given.get(leaf) != wanted.get(leaf))
        first = differ[0]
        raise ValueError(
            f"{at} was given a theta that is not what init returns: {first or 'theta'} is "
            f"{given.get(first, 'missing')} where {wanted.get(first, 'nothing')} is needed "
            f"({len(differ)} such leaves)."
        )


def _shapes(tree: PyTree) -> dict[str, str]:
    """Dtype and shape of each leaf by its name."""
    return {
        jax.tree_util.keystr(path): f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _checked_arrays(at: str, what: str, tree: PyTree) -> PyTree:
    """The tree, if its leaves are arrays, and finite as far as that is known."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        place = what + jax.tree_util.keystr(path)
        if not isinstance(leaf, jax.Array | np.ndarray | np.number | float | int):
            raise ValueError(
                f"{at} returned {place} of type {type(leaf).__name__}; a pytree of arrays is "
                "needed, without strings or other objects."
            )
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            finite = jnp.isfinite(leaf).all()
            message = f"{at} returned {place} with values that are NaN or infinite."
            if not is_concrete(finite):
                checkify.debug_check(finite, message.replace("{", "{{").replace("}", "}}"))
            elif not finite:
                raise ValueError(message)
    return tree
