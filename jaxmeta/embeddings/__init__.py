"""Few-shot classification of frozen features: from names, from a few examples, or from both.

`FewShotClassifier` needs scikit-learn; the learner behind it, `named_head`, does not. Features of
sentences come from `sentence_encoder`, which needs the extra `text`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmeta.embeddings._classifier import FewShotClassifier
    from jaxmeta.embeddings._encoder import SentenceEncoder, sentence_encoder
    from jaxmeta.embeddings._learner import ClassNames, NamedHead, named_head

__all__ = [
    "ClassNames",
    "FewShotClassifier",
    "NamedHead",
    "SentenceEncoder",
    "named_head",
    "sentence_encoder",
]

# Who fits with NumPy does not wait for JAX.
_HOMES = {name: "_learner" for name in ("ClassNames", "NamedHead", "named_head")}
_HOMES |= {name: "_encoder" for name in ("SentenceEncoder", "sentence_encoder")}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES.get(name, '_classifier')}"
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sklearn":
            raise
        raise ModuleNotFoundError(
            f"jaxmeta.embeddings.{name} needs scikit-learn: pip install 'jaxmeta[sklearn]'.",
            name=error.name,
        ) from error


def __dir__() -> list[str]:
    return __all__
