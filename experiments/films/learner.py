"""What a user likes from a few ratings: ridge on the prior's factors, and a network beside it.

    X_i = factors_i / sigma_i,  y_i = (rating_i - mean_i) / sigma_i        a row for each rating
    v   = the ridge solution of X v = y, regulariser learned: the closed form at its start
    s   = sums over the ratings of what is known of the films, alone and times rating - mean
    z_i = [mean_i + factors_i . v, ease_i(s)] + A f(i, v, s) + network(f(i, v, s))

z has a rating and a score to rank by. All that is read of the ratings are v and s, which further
ratings join: `extend`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.films.table import Films
from jaxmeta import Examples, MetaLearner, Task, learners, networks

EASE_SCALE = 5.0
"""The scores of EASE are small numbers; so many times larger they are logits."""


class Taste(NamedTuple):
    """`w` of one user.

    Attributes:
      head: of ridge regression: a vector in the space of the prior's factors.
      sums: over the ratings `[P]`, their number first.
    """

    head: Any
    sums: jax.Array


def closed_form(films: Films, *, extendable: bool = True) -> MetaLearner:
    """The Gaussian prior as a learner of the library: ridge on a square root of its covariance.

    Its factors are cut to F columns. x is the number of a film `[N, 1]`, y and z are ratings.
    """
    ridge = learners.ridge(networks.identity(), intercept=False, extendable=extendable)

    def init(key: jax.Array, task: Task) -> Any:
        table = networks.Variables(jax.tree.map(jnp.asarray, films._asdict()), set(films._fields))
        rows = _rows(table, task.support)
        return {"films": table, "ridge": ridge.init(key, Task(rows, rows))}

    def adapt(theta: Any, support: Examples, *, description: Any = None, key: Any = None) -> Any:
        return ridge.adapt(theta["ridge"], _rows(theta["films"], support))

    def extend(theta: Any, w: Any, examples: Examples) -> Any:
        assert ridge.extend is not None
        return ridge.extend(theta["ridge"], w, _rows(theta["films"], examples))

    def predict(theta: Any, w: Any, x: jax.Array) -> jax.Array:
        table, film = theta["films"], x[:, 0]
        factors = table["factors"][film]
        z = ridge.predict(theta["ridge"], w, factors * factors.shape[1] ** 0.5)
        return table["mean"][film][:, None] + z

    return MetaLearner(init, adapt, predict, extend if extendable else None)


def taste(films: Films, hidden: int, *, extendable: bool = True) -> MetaLearner:
    """The closed form with a network that corrects it, and ranks; z is `[N, 2]`."""
    prior = closed_form(films, extendable=extendable)
    network = networks.mlp([hidden, hidden, 2])

    def init(key: jax.Array, task: Task) -> Any:
        theta = prior.init(key, task)
        w = Taste(prior.adapt(theta, task.support), _sums(theta["films"], task.support))
        found = features(theta, w, task.support.x)
        *inner, last = network.init(key, found)
        # It starts at the closed form, and at EASE.
        linear = jnp.zeros((found.shape[1], 2)).at[0, 1].set(EASE_SCALE)
        return theta | {"network": [*inner, jax.tree.map(lambda a: 0.0 * a, last)], "skip": linear}

    def adapt(theta: Any, support: Examples, *, description: Any = None, key: Any = None) -> Taste:
        return Taste(prior.adapt(theta, support), _sums(theta["films"], support))

    def extend(theta: Any, w: Taste, examples: Examples) -> Taste:
        assert prior.extend is not None
        head = prior.extend(theta, w.head, examples)
        return Taste(head, w.sums + _sums(theta["films"], examples))

    def features(theta: Any, w: Taste, x: jax.Array) -> jax.Array:
        liking = prior.predict(theta, w.head, x)[:, 0] - theta["films"]["mean"][x[:, 0]]
        return _features(theta["films"], w.sums, x[:, 0], liking)

    def predict(theta: Any, w: Taste, x: jax.Array) -> jax.Array:
        found = features(theta, w, x)
        z = found @ theta["skip"] + network.apply(theta["network"], found)
        return z.at[:, 0].add(prior.predict(theta, w.head, x)[:, 0])

    return MetaLearner(init, adapt, predict, extend if extendable else None)


def _rows(table: Any, examples: Examples) -> Examples:
    """Rated films as rows of a regression with noise of variance one."""
    film = jnp.asarray(examples.x)[:, 0]
    factors, sigma = table["factors"][film], jnp.sqrt(table["rest"][film])[:, None]
    y = (examples.y[:, :1] - table["mean"][film][:, None]) / sigma
    # Ridge divides by the root of the number of features; so many times larger, it does not.
    return Examples(factors / sigma * factors.shape[1] ** 0.5, y, jnp.asarray(examples.mask))


def _sums(table: Any, examples: Examples) -> jax.Array:
    """What is known of the rated films, summed `[P]`."""
    film, real = jnp.asarray(examples.x)[:, 0], jnp.asarray(examples.mask).astype(bool)
    left = examples.y[:, :1] - table["mean"][film][:, None]
    known = jnp.concatenate([table["genres"][film], table["giving"][film]], axis=1)
    plain = [jnp.ones_like(left), left, left**2, table["count"][film][:, None]]
    rows = jnp.concatenate([*plain, table["mean"][film][:, None] - 3.5, known, left * known], 1)
    return jnp.where(real[:, None], rows, 0.0).sum(axis=0)


def _features(table: Any, sums: jax.Array, film: jax.Array, liking: jax.Array) -> jax.Array:
    """What the network reads of films for one user `[N, 11 + G]`; the score of EASE is first."""
    genres, taking = table["genres"][film], table["taking"][film]
    num = jnp.maximum(sums[0], 1.0)
    known = sums[5:].reshape(2, -1)
    of_genres, giving = known[:, : genres.shape[1]], known[:, genres.shape[1] :]
    like_seen, like_liked = taking @ giving[0], taking @ giving[1]
    same_seen, same_liked = genres @ of_genres[0] / num, genres @ of_genres[1] / (num + 3.0)
    of_user = [
        jnp.log(num) / 3.0,
        sums[1] / (num + 5.0),
        jnp.sqrt((sums[2] + 2.0) / (num + 2.0)) - 1.0,
        sums[3] / num / 3.0 - 1.5,
        sums[4] / num,
    ]
    of_both = [like_seen, liking, table["mean"][film] - 3.5, table["count"][film] / 3.0 - 1.0]
    of_both += [5.0 * like_liked / (num + 3.0), same_seen, same_liked]
    of_user = jnp.broadcast_to(jnp.stack(of_user), (len(film), len(of_user)))
    return jnp.concatenate([jnp.stack(of_both, axis=1), of_user, genres], axis=1)
