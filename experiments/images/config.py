"""What a few-shot run is set to, and what it is set to by default."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from experiments.common.command_line import flag
from jaxmeta.sparsity import Per

Head = Literal["shared", "separate", "prototypes"]
Gate = Literal["closing", "any_size"]
NetworkName = Literal["conv4", "conv4_batch", "residual", "pixels"]

NETWORKS = get_args(NetworkName)
BATCH_NORMALISED = ("conv4_batch",)


@dataclass(frozen=True)
class TrainConfig:
    """All that determines a trained learner; it is stored in the checkpoint."""

    learner: str
    dataset: str
    network: NetworkName = flag("residual")
    width: int = flag(16)
    precision: Literal["float32", "bfloat16"] = flag("float32", "of the network")
    ways: int = flag(80, None, "--train-ways")
    shots: int = flag(1, None, "--train-shots")
    most_shots: int | None = flag(None, "draw each episode's shots up to this")
    queries: int = flag(2, None, "--train-queries")
    tasks_per_step: int = flag(1)
    steps: int = flag(240)
    learning_rate: float = flag(1e-2)
    weight_decay: float = 0.05
    jitter: float = flag(1.0)
    rotations: bool = flag(False)
    reflections: bool = flag(False)
    eta: float = flag(0.0, "weight of the L1 penalty on w")
    density: float = flag(1.0, "share of w that leaves adapt non-zero")
    gate: Gate = flag("closing", "what keeps w to that density")
    per: Per = flag("leaf", "what a gate ranks")  # see `sparsity.top_k`
    least: float = 0.01  # the smallest share that a gate of any size is trained for
    inner_steps: int = flag(5, "of the gradient learners")
    inner_rate: float = flag(0.4)
    proximity: float = 2.0  # of iMAML, to where a descent starts
    solver_steps: int = 2  # conjugate gradients of its implicit gradient
    size: int = 128  # of the in-context transformer
    context_size: int = 100  # of CAVIA
    film: bool = True  # whether CAVIA's context scales the features, too
    hidden: tuple[int, ...] = ()  # layers of CAVIA's decoder, and of what a hypernetwork emits
    statistics: Literal["support", "query"] = flag(
        "support",
        "batch statistics that gradient learners judge queries by: of the support set, or of the "
        "queries themselves (transductive); counts with --eval-only too",
    )
    head: Head = flag("shared", "where their heads start")  # see `learned_init`
    num_classes: int = 1
    seed: int = 0
    init_from: str | None = flag(
        None, "checkpoint to start from: theta, or another learner's network"
    )

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
        if stored.get("network", "conv4") not in NETWORKS:
            raise ValueError(
                f"it was made for a network {stored['network']}, which this version does not have"
            )
        return cls(**stored | {"hidden": tuple(stored.get("hidden", ()))})


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
