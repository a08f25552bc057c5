"""What services run for users: means, neighbours, EASE, factors; all by validation users.

A rival is a function `(films, ratings) -> values [M]` of what one user has rated.
"""

from collections.abc import Callable

import numpy as np

from experiments.films.data import LIKED
from experiments.films.prior import item_means

Rival = Callable[[np.ndarray, np.ndarray], np.ndarray]


def shrunk_offset(matrix: np.ndarray, shrinkage: float) -> Rival:
    """The mean of each film and the user's offset from it, shrunk; inf for the mean alone."""
    mean = item_means(matrix)
    return lambda films, ratings: mean + (ratings - mean[films]).sum() / (len(films) + shrinkage)


def popularity(matrix: np.ndarray) -> Rival:
    """How many users liked each film."""
    count = (np.nan_to_num(matrix) >= LIKED).sum(axis=0).astype(float)
    return lambda films, ratings: count


def neighbours(matrix: np.ndarray, shrinkage: float, num: int, offset: float) -> Rival:
    """Item-kNN on what a film's mean and the user's offset leave, by shrunk cosines."""
    rest, mean = _residuals(matrix, offset)
    seen = (~np.isnan(matrix)).astype(np.float32)
    norms = np.sqrt((rest**2).T @ seen * (seen.T @ rest**2)) + 1e-9
    both = seen.T @ seen
    alike = (rest.T @ rest) / norms * both / (both + shrinkage)
    alike = np.maximum(alike, 0.0)

    def predict(films: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        base = (ratings - mean[films]).sum() / (len(films) + offset)
        near = alike[:, films]
        if len(films) > num:
            least = -np.partition(-near, num - 1, axis=1)[:, num - 1 : num]
            near = np.where(near >= least, near, 0.0)
        left = ratings - mean[films] - base
        return mean + base + near @ left / (near.sum(axis=1) + 0.3)

    return predict


def ranked_neighbours(matrix: np.ndarray, shrinkage: float) -> Rival:
    """Item-kNN for rankings: how often films were seen by the same users, by cosines."""
    seen = (~np.isnan(matrix)).astype(np.float32)
    count = np.maximum(seen.sum(axis=0), 1.0) + shrinkage
    alike = seen.T @ seen / np.sqrt(np.outer(count, count))
    return lambda films, ratings: alike[films].sum(axis=0)


def ease_weights(matrix: np.ndarray, regulariser: float) -> np.ndarray:
    """EASE (Steck, arXiv:1905.03375): each film from the others that were seen `[M, M]`."""
    seen = (~np.isnan(matrix)).astype(np.float64)
    inverse = np.linalg.inv(seen.T @ seen + regulariser * np.eye(seen.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights.astype(np.float32)


def ease(matrix: np.ndarray, regulariser: float) -> Rival:
    """EASE on which films were seen."""
    weights = ease_weights(matrix, regulariser)
    return lambda films, ratings: weights[films].sum(axis=0)


def als(matrix: np.ndarray, rank: int, regulariser: float, offset: float) -> Rival:
    """Factors by alternating least squares on ratings; a new user is folded in."""
    rest, mean = _residuals(matrix, offset)
    items = _alternate(rest, ~np.isnan(matrix), rank, regulariser)

    def predict(films: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        base = (ratings - mean[films]).sum() / (len(films) + offset)
        x = items[films]
        system = x.T @ x + regulariser * np.eye(rank)
        return mean + base + items @ np.linalg.solve(system, x.T @ (ratings - mean[films] - base))

    return predict


def implicit_als(matrix: np.ndarray, rank: int, regulariser: float, confidence: float) -> Rival:
    """Factors of which films were seen, the others at weight one (Hu et al. 2008); folded in."""
    seen = (~np.isnan(matrix)).astype(np.float64)
    items = np.random.default_rng(0).normal(0, 0.1, (seen.shape[1], rank))

    def solve(factors: np.ndarray, rows: np.ndarray) -> np.ndarray:
        gram, found = factors.T @ factors + regulariser * np.eye(rank), []
        for row in rows:
            x = factors[row > 0]
            system = gram + confidence * x.T @ x
            found.append(np.linalg.solve(system, (1.0 + confidence) * x.sum(axis=0)))
        return np.stack(found)

    for _ in range(8):
        items = solve(solve(items, seen), seen.T)

    def predict(films: np.ndarray, ratings: np.ndarray) -> np.ndarray:
        row = np.zeros((1, len(items)))
        row[0, films] = 1.0
        return items @ solve(items, row)[0]

    return predict


def _residuals(matrix: np.ndarray, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Ratings without the mean of the film and the offset of the user, zeros where none; means."""
    mean, seen = item_means(matrix), ~np.isnan(matrix)
    rest = np.where(seen, np.nan_to_num(matrix) - mean, 0.0)
    rest = rest - rest.sum(axis=1, keepdims=True) / (seen.sum(axis=1, keepdims=True) + offset)
    return np.where(seen, rest, 0.0), mean


def _alternate(rest: np.ndarray, seen: np.ndarray, rank: int, regulariser: float) -> np.ndarray:
    """Factors of the films `[M, K]`, the regulariser once for each row."""
    items = np.random.default_rng(0).normal(0, 0.1, (seen.shape[1], rank))

    def solve(factors: np.ndarray, values: np.ndarray, held: np.ndarray) -> np.ndarray:
        found = np.zeros((len(values), rank))
        for at, (row, mask) in enumerate(zip(values, held, strict=True)):
            x = factors[mask]
            found[at] = np.linalg.solve(x.T @ x + regulariser * np.eye(rank), x.T @ row[mask])
        return found

    for _ in range(10):
        users = solve(items, rest, seen)
        items = solve(users, rest.T, seen.T)
    return items
