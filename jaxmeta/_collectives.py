"""One device's share of a batch of tasks, where an axis named `TASK_AXIS` is mapped over devices.

Outside of such an axis there is one share, the whole. Keys are always split for the whole batch,
so that what is drawn does not depend on the number of devices.
"""

import jax

from jaxmeta.types import Array, PyTree

TASK_AXIS = "tasks"
"""The name of the mapped axis over which devices share the tasks of a batch (`parallel`)."""


def num_devices() -> int:
    """Devices that share the batch where this is traced."""
    try:
        return jax.lax.axis_size(TASK_AXIS)
    except NameError:
        return 1


def check_divides(num_devices: int, num_tasks: int) -> None:
    """Raise ValueError unless the devices can share the tasks in equal parts."""
    if num_tasks % num_devices:
        raise ValueError(
            f"{num_devices} devices cannot share {num_tasks} tasks in equal parts: use a multiple "
            f"of {num_devices} tasks, or fewer devices."
        )


def split_key_for_device(key: Array, num_tasks: int) -> Array:
    """The keys of this device's share of `num_tasks` tasks."""
    check_divides(num_devices(), num_tasks)
    keys = jax.random.split(key, num_tasks)
    if num_devices() == 1:
        return keys
    size = num_tasks // num_devices()
    return jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(TASK_AXIS) * size, size)


def pmean_over_tasks(tree: PyTree) -> PyTree:
    """The mean of every leaf over the devices."""
    return jax.lax.pmean(tree, TASK_AXIS) if num_devices() > 1 else tree
