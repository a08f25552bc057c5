"""Sentences as vectors: a BERT sentence model from a folder, in JAX."""

import contextlib
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxmeta.embeddings import _bert, _bert_files
from jaxmeta.embeddings._bert import Bert, Settings
from jaxmeta.types import Array

_STEP = 16
"""Sentences are padded to a multiple of so many tokens: each length is compiled once."""

_AT_ONCE = 4096
"""Sentences that are split into tokens at once: their encodings are far larger than the ids."""


class SentenceEncoder(NamedTuple):
    """What `sentence_encoder` returns: call it with sentences. D features.

    Attributes:
      params: of the network, a pytree in float32.
      settings: what the tensors do not say, such as the number of heads.
      tokenizer: of the package `tokenizers`; it cuts what is too long.
    """

    params: Bert
    settings: Settings
    tokenizer: Any

    def __call__(
        self, sentences: Iterable[str], *, batch_size: int = 64, progress: bool = False
    ) -> np.ndarray:
        """Vectors of unit length `[N, D]`, float32, in the order of the sentences.

        Sentences that are longer than the model reads are cut, with a warning that counts them.

        Args:
          sentences: N strings; an empty one is a sentence too.
          batch_size: how many sentences, of similar lengths, are computed at once.
          progress: whether to show a bar, if tqdm is installed.

        Raises:
          ValueError: for what is not a collection of strings, or a batch of none.
        """
        sentences = _checked(sentences)
        if batch_size < 1:
            raise ValueError(f"A batch has one sentence or more, got batch_size={batch_size}.")
        tokens = self._tokens(sentences)
        vectors = np.zeros((len(tokens), self.params.words.shape[1]), np.float32)
        # The longest first: the bar promises rather too little, and what does not fit fails early.
        order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        most = len(self.params.positions)
        with _bar(len(tokens), progress) as bar:
            for rows in batches:
                ids, mask = _padded([tokens[row] for row in rows], batch_size, most)
                vectors[rows] = np.asarray(self.apply(self.params, ids, mask))[: len(rows)]
                if bar is not None:
                    bar.update(len(rows))
        return vectors

    def apply(self, params: Bert, ids: Array | np.ndarray, mask: Array | np.ndarray) -> Array:
        """The network as a pure function: tokens and their mask `[N, T]` to vectors `[N, D]`.

        Args:
          params: such as those of the encoder.
          ids: numbers of tokens; T at most the positions of the model.
          mask: bool; False for padding.
        """
        return _bert.apply(params, jnp.asarray(ids), jnp.asarray(mask), settings=self.settings)

    def _tokens(self, sentences: list[str]) -> list[np.ndarray]:
        """The tokens of each sentence; warns of those that were cut."""
        tokens, num_cut = [], 0
        for at in range(0, len(sentences), _AT_ONCE):
            for encoding in self.tokenizer.encode_batch_fast(sentences[at : at + _AT_ONCE]):
                tokens.append(np.asarray(encoding.ids, np.int32))
                num_cut += bool(encoding.overflowing)
        if num_cut:
            limit = self.tokenizer.truncation["max_length"]
            warnings.warn(
                f"{num_cut} of {len(sentences)} sentences are longer than the {limit} tokens that "
                "the model reads: the rest of them is cut.",
                stacklevel=3,
            )
        return tokens


def sentence_encoder(folder: Path | str | None = None) -> SentenceEncoder:
    """A sentence model, such as all-MiniLM-L6-v2, as features for `FewShotClassifier`.

        encode = sentence_encoder()
        x = encode(["my card has not arrived", "the rate was wrong"], progress=True)  # [2, 384]

    BERT of any size is read, with one sentence a vector: the mean of its tokens or the first one,
    as the folder says, always of unit length. Without a folder, all-MiniLM-L6-v2 (six layers, 384
    features, 256 tokens). It computes in float32 on JAX's default device, also from weights in half
    precision.

    Args:
      folder: with `model.safetensors`, `tokenizer.json` and `config.json`, as the models of
        sentence-transformers come; None for the weights that the extra `text` installs.

    Raises:
      ModuleNotFoundError: without the extra `text`.
      ValueError: for a folder that lacks a file or a tensor, or holds another kind of model.

    References:
      Wang et al., MiniLM, arXiv:2002.10957. Reimers and Gurevych, Sentence-BERT, arXiv:1908.10084.
    """
    for module in ("tokenizers", "safetensors"):
        _bert_files.need(module)
    place = _bert_files.default_folder() if folder is None else Path(folder)
    settings = _bert_files.read_settings(place)
    params = _bert_files.read_weights(place, settings)
    return SentenceEncoder(params, settings, _bert_files.read_tokenizer(place, params))


def _checked(sentences: Any) -> list[str]:
    """A list of strings.

    Raises:
      ValueError: for anything else.
    """
    if isinstance(sentences, str | bytes) or not isinstance(sentences, Iterable):
        raise ValueError(
            f"An encoder reads a list of sentences, got {type(sentences).__name__}: of one "
            "sentence, a list of one."
        )
    sentences = list(sentences)
    for row, sentence in enumerate(sentences):
        if not isinstance(sentence, str):
            kind = type(sentence).__name__
            raise ValueError(f"Sentence {row} is no string, got {kind}: {sentence!r:.40}.")
        if not sentence.isascii() and any("\ud800" <= c <= "\udfff" for c in sentence):
            raise ValueError(f"Sentence {row} holds half a surrogate pair, which is no character.")
    return [str(sentence) for sentence in sentences]


def _padded(tokens: list[np.ndarray], batch_size: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask `[N, T]` of few sizes: multiples of 16 tokens, powers of two of sentences."""
    longest = max(max(map(len, tokens)), 1)
    rows = min(1 << (len(tokens) - 1).bit_length(), batch_size)
    shape = (rows, min(-(-longest // _STEP) * _STEP, most))
    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    for row, sentence in enumerate(tokens):
        ids[row, : len(sentence)] = sentence
        mask[row, : len(sentence)] = True
    return ids, mask


def _bar(total: int, progress: bool) -> Any:
    """A bar of tqdm as a context, or None in its place."""
    if not progress:
        return contextlib.nullcontext()
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        return contextlib.nullcontext()
    return tqdm(total=total, desc="embedding", unit="sentence")
