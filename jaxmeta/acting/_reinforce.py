"""MAML with policy gradients: the policy after gradient steps on what it did itself."""

import jax
import jax.numpy as jnp

from jaxmeta._examples import read_support
from jaxmeta._validation import check_positive
from jaxmeta.learners._buffer import buffered
from jaxmeta.networks._core import encoder, features_like
from jaxmeta.networks._mlp import dense, dense_init
from jaxmeta.types import Array, Examples, MetaLearner, Network, PyTree, Task


def reinforce(
    network: Network, *, ways: int, num_steps: int, inner_steps: int = 1, rate: float = 1.0
) -> MetaLearner:
    """Act by a policy that takes gradient steps on the history of the trial.

        phi = theta,  then some times  phi <- phi - rate * d/dphi L(phi)
        L(phi) = - mean over the steps so far of (R_t - b n_t) log pi_phi(a_t | x_t)
        z = network_phi(x)

    R_t is the sum of the n_t rewards so far from step t on. `rate` and b, the reward of a step that
    is neither good nor bad, are learned. Trained by `actor_critic_objective` this is MAML with the
    gradient of the expected return as it is: its score function is of histories, which holds both
    how the steps move the policy and how the policy chose what they are computed from. So nothing
    is left out, and no surrogate such as DiCE is needed.

    Args:
      network: `[N, ...] -> [N, F]` of what is seen, without the reward; a linear layer follows.
      ways: number of actions C.
      num_steps: the most steps of a trial.
      inner_steps: gradient steps before each action.
      rate: where the learned rate starts.

    Returns:
      A learner of the rows of `play`, whose `z` is `[N, C]` logits. Its w is the history.

    Raises:
      ValueError: for a number below one, a rate that is not above zero, or a network normalised by
        batch statistics; in `extend`, for more rows than `num_steps`.

    Example:
      >>> import jax
      >>> from jaxmeta import acting, networks
      >>> bandit = acting.bernoulli_bandit(arms=3, pulls=4)
      >>> learner = acting.reinforce(networks.identity(), ways=3, num_steps=4)
      >>> task = acting.environment_tasks(bandit)(jax.random.key(0))
      >>> theta = learner.init(jax.random.key(1), task)
      >>> acting.play(learner, bandit, theta, task.description, jax.random.key(2)).logits.shape
      (4, 3)

    References:
      Finn, Abbeel and Levine, Model-agnostic meta-learning, arXiv:1703.03400, section 5.3.
      Al-Shedivat et al., Continuous adaptation via meta-learning, arXiv:1710.03641.
    """
    check_positive(ways=ways, num_steps=num_steps, inner_steps=inner_steps)
    if not rate > 0:
        raise ValueError(f"reinforce needs a rate above zero, got {rate}.")
    network = encoder(network, "reinforce")

    def init(key: Array, task: Task) -> PyTree:
        network_key, out_key = jax.random.split(key)
        seen = task.support.x[:, :-1]
        params = network.init(network_key, seen)
        size = features_like(network, params, seen).shape[-1]
        policy = {"network": params, "out": dense_init(out_key, size, ways, gain=1e-4)}
        log_rate = jnp.log(jnp.float32(rate))
        return {"policy": policy, "log_rate": log_rate, "baseline": jnp.zeros(())}

    def logits(policy: PyTree, x: Array) -> Array:
        return dense(policy["out"], network.apply(policy["network"], x[:, :-1]))

    def inner_loss(policy: PyTree, baseline: Array, history: Examples) -> Array:
        real = history.mask
        better = real * (history.x[:, -1] - baseline)
        weight = real * jnp.cumsum(better[::-1])[::-1]
        chances = jax.nn.log_softmax(logits(policy, history.x))
        chosen = jnp.take_along_axis(chances, history.y[:, None], axis=1)[:, 0]
        return -(weight * chosen).sum() / jnp.maximum(real.sum(), 1.0)

    def adapt(theta: PyTree, support: Examples, **_: PyTree) -> Examples:
        rows = read_support(support, ways, classes_for="reinforce", may_be_empty=True)
        return rows._replace(y=jnp.maximum(rows.y, 0))

    def predict(theta: PyTree, w: Examples, x: Array) -> Array:
        policy = theta["policy"]
        for _ in range(inner_steps):
            slope = jax.grad(inner_loss)(policy, theta["baseline"], w)
            policy = jax.tree.map(lambda p, g: p - jnp.exp(theta["log_rate"]) * g, policy, slope)
        return logits(policy, x)

    return buffered(MetaLearner(init, adapt, predict), num_steps, "refuse", ways)
