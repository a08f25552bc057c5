"""One of each learner, small enough to compile in no time, for what all of them promise."""

import functools

import jax

from jaxmeta import learners, losses, networks, tasks

NET = networks.mlp([8])
hypernet = functools.partial(learners.hypernet, NET, hidden=(5,), context_size=6)
in_context = functools.partial(learners.in_context, NET, size=8, num_heads=2)
neural_process = functools.partial(
    learners.neural_process, NET, representation_size=6, hidden=(7,), num_heads=2
)
LEARNERS = {
    "matching": learners.matching(NET, ways=3),
    "matching full context": learners.matching(NET, ways=3, full_context=True),
    "matching sparsemax": learners.matching(NET, ways=3, attention="sparsemax", scale=2.0),
    "prototypes euclidean": learners.prototypes(NET, ways=3),
    "prototypes cosine": learners.prototypes(NET, ways=3, distance="cosine"),
    "nearest neighbour": learners.nearest_neighbour(ways=3),
    "transfer centroid": learners.transfer(NET, num_classes=4, ways=3),
    "transfer logistic": learners.transfer(
        NET, num_classes=4, ways=3, head="logistic", num_steps=300, penalty=0.1
    ),
    "hypernet support": hypernet(out_size=3),
    "hypernet description": hypernet(out_size=3, source="description"),
    "hypernet both": hypernet(out_size=3, source="both"),
    "hypernet low rank": hypernet(out_size=3, rank=2),
    "hypernet regression": hypernet(out_size=1),
    "ridge of few rows": learners.ridge(NET, ways=3),
    "ridge of many rows": learners.ridge(networks.mlp([4]), ways=3),
    "ridge regression": learners.ridge(NET, regulariser=0.1),
    "relation": learners.relation(NET, hidden=(6,), ways=3),
    "neural process regression": neural_process(),
    "neural process attentive regression": neural_process(attention=True),
    "neural process latent regression": neural_process(attention=True, latent=3),
    "in context": in_context(ways=3),
    "in context regression": in_context(num_layers=1),
    "maml": learners.maml(NET, num_steps=2, rate=0.3, ways=3),
    "maml separate heads": learners.maml(NET, num_steps=2, rate=0.3, ways=3, head="separate"),
    "maml regression": learners.maml(NET, num_steps=2, rate=0.01, loss=losses.mean_squared_error),
    "fomaml": learners.fomaml(NET, num_steps=2, rate=0.3, ways=3),
    "anil": learners.anil(NET, num_steps=2, rate=0.3, ways=3, differentiate="nested"),
    "meta_sgd": learners.meta_sgd(NET, num_steps=2, rate=0.3, ways=3, differentiate="mixed"),
    "maml++": learners.maml_plus_plus(NET, num_steps=2, rate=0.3, ways=3),
    "imaml": learners.imaml(NET, num_steps=150, rate=0.1, proximity=2.0, ways=3),
    "cavia": learners.cavia(NET, num_steps=2, hidden=(), context_size=3, ways=3),
    "cavia_film": learners.cavia(NET, num_steps=2, hidden=(), context_size=3, ways=3, film=True),
}
CLASSIFIERS = {name: each for name, each in LEARNERS.items() if "regression" not in name}
sinusoid = tasks.sinusoids(shots=6, queries=5)


def draw_sinusoid(seed):
    """A regression task."""
    return sinusoid(jax.random.key(seed))


def task_loss(name):
    """What the learner of that name is trained on."""
    return losses.mean_squared_error if "regression" in name else losses.cross_entropy


def logits(learner, theta, task):
    """z of the query rows."""
    w = learner.adapt(theta, task.support, description=task.description)
    return learner.predict(theta, w, task.query.x)


@functools.cache
def jitted(name):
    """The learner as one function of theta and task, shared by the tests so as to compile once."""
    return jax.jit(functools.partial(logits, LEARNERS[name]))
