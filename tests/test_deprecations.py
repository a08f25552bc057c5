"""Names and modules of version 0.1 work, and warn with the name that is current."""

import importlib
import pickle
import warnings

import pytest

import jaxmeta
from jaxmeta.transforms import FineTunedTheta

NAMES = {
    "inner": "Descent Differentiate Evolution Implicit Truncated descend evolve merge resolve",
    "learners": (
        "EmittedTable TableDescription anil cavia fomaml hypernet imaml in_context learned_init "
        "maml maml_plus_plus matching meta_sgd multi_step_objective nearest_neighbour "
        "neural_process pretrain_objective prototypes relation reptile reptile_objective ridge "
        "table_description table_examples tabular transfer"
    ),
    "networks": (
        "PairNetwork Variables chain conv4 from_nnx identity in_precision mlp residual rms_norm "
        "task_conv transductive"
    ),
    "sparsity": (
        "Gate Per ProximalState density elastic_net elastic_threshold expected_l0 group_lasso "
        "group_threshold hard_concrete hard_threshold hoyer is_parameter l1 l2 "
        "learned_threshold live_inputs live_units log_sum log_threshold map_parameters "
        "multiply_adds nonzeros num_bytes only parameters proximal ranked relative shrink size "
        "soft_threshold sparsemax straight_through top_k"
    ),
    "tasks": (
        "ImageClasses class_batches episodes glyphs keep_groups omniglot read_drawings "
        "sinusoids tabular_prior two_tasks"
    ),
    "transforms": (
        "Gated GatedUpdates LearnedOptimiser Multiplied TargetDensity Tuned any_size checked "
        "checked_loss fine_tune gated learned_rates sparsify with_multiplier"
    ),
    "export": "Perceptron Report describe load measure numpy_source perceptron shrink stablehlo",
    "losses": "accuracy answerable cross_entropy gaussian masked_mean squared_error",
    "parallel": "gathered pmap_step replicate shard_step shard_tasks task_mesh unreplicate",
}
"""What each package showed."""

MODULES = {
    "export.numpy_file": "load numpy_source",
    "export.perceptron": "Perceptron perceptron shrink",
    "export.report": "Report describe measure",
    "export.stablehlo": "stablehlo",
    "learners.cavia": "cavia",
    "learners.gradient": "anil fomaml imaml maml maml_plus_plus meta_sgd reptile reptile_objective",
    "learners.hypernet": "hypernet",
    "learners.in_context": "in_context",
    "learners.learned_init": "learned_init",
    "learners.matching": "matching",
    "learners.multi_step": "multi_step_objective",
    "learners.nearest_neighbour": "nearest_neighbour",
    "learners.neural_process": "neural_process",
    "learners.prototypes": "prototypes",
    "learners.relation": "relation",
    "learners.ridge": "ridge",
    "learners.tabular": "EmittedTable TableDescription table_description table_examples tabular",
    "learners.tabular.learner": "EmittedTable TableDescription tabular",
    "learners.tabular.tables": "table_description table_examples",
    "learners.transfer": "pretrain_objective transfer",
    "networks.base": "PairNetwork chain from_nnx identity rms_norm transductive",
    "networks.conv": "conv4 residual",
    "networks.mlp": "mlp",
    "networks.precision": "in_precision",
    "networks.task_conv": "task_conv",
    "sparsity.descent": "ProximalState proximal",
    "sparsity.gates": (
        "Gate expected_l0 hard_concrete learned_threshold only ranked sparsemax straight_through"
    ),
    "sparsity.measures": "density live_inputs live_units multiply_adds nonzeros num_bytes size",
    "sparsity.operators": (
        "elastic_threshold group_threshold hard_threshold log_threshold relative shrink "
        "soft_threshold top_k"
    ),
    "sparsity.penalties": "elastic_net group_lasso hoyer l1 l2 log_sum",
    "tasks.drawings": "read_drawings",
    "tasks.episodes": "class_batches episodes",
    "tasks.glyphs": "glyphs",
    "tasks.images": "ImageClasses keep_groups",
    "tasks.omniglot": "omniglot read_drawings",
    "tasks.synthetic": "sinusoids two_tasks",
    "tasks.tabular_prior": "tabular_prior",
    "transforms.checked": "checked checked_loss",
    "transforms.fine_tune": "LearnedOptimiser Tuned fine_tune learned_rates",
    "transforms.gated": "GatedUpdates gated",
    "transforms.multiplier": "Multiplied TargetDensity with_multiplier",
    "transforms.sparsify": "Gated any_size sparsify",
}
"""Modules from which these could be imported."""


def reach(place, name):
    """`(what is found there, what was said)`."""
    with warnings.catch_warnings(record=True, action="always") as said:
        value = getattr(importlib.import_module(f"jaxmeta.{place}"), name)
    return value, [str(one.message) for one in said if one.category is DeprecationWarning]


def current(sentence):
    """What a warning says that the old name is now."""
    home, _, name = sentence.partition(" is now ")[2].partition(";")[0].rpartition(".")
    module = importlib.import_module(home)
    assert name in getattr(module, "__all__", vars(module))
    return getattr(module, name)


@pytest.mark.parametrize("package", NAMES)
def test_every_old_name_works_and_says_what_it_is_now(package):
    for name in NAMES[package].split():
        value, said = reach(package, name)
        if name in dir(getattr(jaxmeta, package)):
            assert said == []
            continue
        assert len(said) == 1 and said[0].startswith(f"jaxmeta.{package}.{name} is now jaxmeta.")
        assert value is current(said[0])


@pytest.mark.parametrize("module", MODULES)
def test_every_old_module_works_and_says_where_to_import_from(module):
    for name in MODULES[module].split():
        value, said = reach(module, name)
        assert len(said) == 1 and said[0].startswith(f"jaxmeta.{module}.{name} is now jaxmeta.")
        assert value is current(said[0])


def test_the_warning_is_placed_where_the_old_name_is_used():
    with pytest.warns(DeprecationWarning) as said:
        jaxmeta.sparsity.ranked  # noqa: B018
        from jaxmeta.transforms.sparsify import any_size  # noqa: F401
    assert {one.filename for one in said} == {__file__}


def test_what_was_never_there_is_not_there_now():
    for place in ("sparsity", "sparsity.gates", "learners.matching"):
        with pytest.raises(AttributeError, match="nonsense"):
            reach(place, "nonsense")


def test_a_pickle_with_an_old_name_is_read():
    new = pickle.dumps(FineTunedTheta(1, 2), protocol=0)
    old = new.replace(
        b"jaxmeta.transforms._fine_tune\nFineTunedTheta", b"jaxmeta.transforms.fine_tune\nTuned"
    )
    assert old != new
    with pytest.warns(DeprecationWarning, match="transforms.FineTunedTheta"):
        assert pickle.loads(old) == FineTunedTheta(1, 2)
