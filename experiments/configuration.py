"""What a few-shot run is set to: learners and networks by name, and their default settings."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from jaxmeta.learners.learned_init import Head
from jaxmeta.sparsity import Per

GRADIENT = ("maml", "fomaml", "anil", "meta_sgd", "imaml", "reptile", "maml_plus_plus")
"""Those that adapt a whole network by gradient."""

LEARNERS = (
    "matching",
    "matching_fce",
    "prototypes",
    "prototypes_euclidean",
    "relation",
    "ridge",
    "in_context",
    "hypernet",
    "cavia",
    *GRADIENT,
    "transfer",
    "transfer_logistic",
    "nearest_neighbour",
)
"""The learners that `--learner` names."""

NETWORKS = ("residual", "conv4", "conv4_batch")
GATES = ("closing", "any_size")
BATCH_NORMALISED = ("conv4_batch",)


@dataclass(frozen=True)
class TrainConfig:
    """All that determines a trained learner; it is stored in the checkpoint."""

    learner: str
    dataset: str
    network: str = "residual"
    width: int = 16
    precision: str = "float32"
    ways: int = 80
    shots: int = 1
    most_shots: int | None = None  # a range of shots, for variable episodes
    queries: int = 2
    tasks_per_step: int = 1
    steps: int = 240
    learning_rate: float = 1e-2
    weight_decay: float = 0.05
    jitter: float = 1.0
    rotations: bool = False
    reflections: bool = False
    eta: float = 0.0
    density: float = 1.0
    gate: str = "closing"
    per: Per = "leaf"  # what a gate ranks, see `sparsity.top_k`
    least: float = 0.01  # the smallest share that a gate of any size is trained for
    inner_steps: int = 5
    inner_rate: float = 0.4
    proximity: float = 2.0  # of iMAML, to where a descent starts
    solver_steps: int = 2  # conjugate gradients of its implicit gradient
    size: int = 128  # of the in-context transformer
    context_size: int = 100  # of CAVIA
    film: bool = True  # whether CAVIA's context scales the features, too
    hidden: tuple[int, ...] = ()  # layers of CAVIA's decoder, and of what a hypernetwork emits
    statistics: str = "support"  # "query" is transductive
    head: Head = "shared"  # where the head of a gradient learner starts, see `learned_init`
    num_classes: int = 1
    seed: int = 0
    init_from: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON."""
        return asdict(self) | {"hidden": list(self.hidden)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TrainConfig":
        """What `to_json` gave; settings that older versions did not store are at their defaults.

        Raises:
          ValueError: if it is of something else, or of a version that knows more settings.
        """
        unknown = sorted(stored.keys() - {field.name for field in fields(cls)})
        if unknown or not {"learner", "dataset"} <= stored.keys():
            raise ValueError(
                "its configuration is not that of a learner of experiments.few_shot"
                + (f", which has no settings {', '.join(unknown)}" if unknown else "")
            )
        if stored["learner"] not in LEARNERS or stored.get("network", "conv4") not in NETWORKS:
            raise ValueError(
                f"it was made for a learner {stored['learner']} on a network "
                f"{stored.get('network')}, which this version does not have"
            )
        return cls(**stored | {"hidden": tuple(stored.get("hidden", ()))})

    @property
    def trains(self) -> bool:
        """Whether there is anything to learn."""
        return self.learner != "nearest_neighbour"

    @property
    def inductive(self) -> bool:
        """Whether a query is judged without regard to the other queries."""
        if self.network not in BATCH_NORMALISED:
            return True
        # The other learners embed queries apart from the support set, by statistics of their own.
        return self.learner in GRADIENT and self.statistics == "support"


DATASET_DEFAULTS: dict[str, dict[str, Any]] = {
    # Syllabics are turned and mirrored to change the vowel: turned letters are no new classes.
    "glyphs": {"rotations": False, "reflections": False},
    "omniglot": {
        "rotations": True,
        "reflections": True,
        "width": 32,
        "ways": 64,
        "queries": 3,
        "steps": 16_000,
        "learning_rate": 6e-3,
    },
}
"""Where a data set's training settings differ from those of `TrainConfig`."""

_BY_GRADIENT: dict[str, Any] = {
    # Weights of each task's own: narrow episodes, a network whose convolutions allow for it.
    "network": "conv4_batch",
    "width": 32,
    "ways": 5,
    "queries": 5,
    "tasks_per_step": 4,
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "inner_steps": 3,
    "steps": 800,
}

LEARNER_DEFAULTS: dict[str, dict[str, Any]] = dict.fromkeys(GRADIENT, _BY_GRADIENT) | {
    # The implicit gradient is that of where a descent ends: short steps, a firm pull back, and no
    # longer training than the descent can follow (BUILD_NOTES.md).
    "imaml": _BY_GRADIENT
    | {"inner_rate": 0.1, "inner_steps": 16, "learning_rate": 1e-3, "steps": 300},
    # Emission multiplies parameters by parameters: at the others' rate, or with 80 columns to
    # tell apart from the start, it does not settle.
    "hypernet": {"learning_rate": 3e-3, "ways": 20, "queries": 3, "tasks_per_step": 3},
    "relation": {"learning_rate": 3e-3, "ways": 20, "queries": 3, "tasks_per_step": 3},
    "matching_fce": {
        "learning_rate": 3e-3,
        "ways": 20,
        "queries": 3,
        "tasks_per_step": 3,
        "steps": 300,
    },
    "in_context": {"learning_rate": 3e-3},
    "cavia": {
        "learning_rate": 3e-3,
        "ways": 5,
        "queries": 5,
        "tasks_per_step": 8,
        "inner_steps": 2,
        "inner_rate": 10.0,
        "steps": 480,
    },
}
"""Where a learner's training settings differ from those of its data set."""
