"""Learners that act: environments as tasks, trials in them, and training by policy gradient."""

from jaxmeta.acting._actor_critic import actor_critic, actor_critic_objective
from jaxmeta.acting._bandits import Bandit, bernoulli_bandit, gaussian_bandit
from jaxmeta.acting._environments import Environment, environment_tasks
from jaxmeta.acting._gymnax import from_gymnax
from jaxmeta.acting._histories import history_tasks, with_blank_rows
from jaxmeta.acting._mazes import MOVES, ROOMS, Maze, maze
from jaxmeta.acting._mdps import MDP, optimal_values, random_mdp
from jaxmeta.acting._optimum import bernoulli_optimum
from jaxmeta.acting._planner import ProcessCounts, planner
from jaxmeta.acting._reinforce import reinforce
from jaxmeta.acting._trials import Trial, play

__all__ = [
    "Bandit",
    "Environment",
    "MDP",
    "MOVES",
    "Maze",
    "ProcessCounts",
    "ROOMS",
    "Trial",
    "actor_critic",
    "actor_critic_objective",
    "bernoulli_bandit",
    "bernoulli_optimum",
    "environment_tasks",
    "from_gymnax",
    "gaussian_bandit",
    "history_tasks",
    "maze",
    "optimal_values",
    "planner",
    "play",
    "random_mdp",
    "reinforce",
    "with_blank_rows",
]


def __dir__() -> list[str]:
    return __all__
