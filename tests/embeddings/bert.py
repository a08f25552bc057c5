"""A tiny BERT on disk with random weights, and the same in NumPy."""

import json

import numpy as np
from safetensors.numpy import save_file
from scipy.special import erf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = "my card has not arrived the rate was wrong please help me now".split()
HEADS, LAYERS, WIDTH, INNER, POSITIONS, MOST = 2, 3, 8, 24, 40, 20


def write(folder, *, dtype=np.float32, prefix="", config=None, pooling=None, change=None):
    """A model in a folder; `change(tensors)` may damage it. Returns its tensors in float32."""
    tensors = random_tensors()
    if change is not None:
        change(tensors)
    stored = {prefix + name: np.ascontiguousarray(t.astype(dtype)) for name, t in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / "model.safetensors")
    settings = {"model_type": "bert", "num_attention_heads": HEADS, "hidden_act": "gelu"}
    write_json(folder / "config.json", settings | (config or {}))
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MOST})
    if pooling is not None:
        write_json(folder / "1_Pooling" / "config.json", pooling)
    tokenizer().save(str(folder / "tokenizer.json"))
    return {name: t.astype(dtype).astype(np.float32) for name, t in tensors.items()}


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def tokenizer():
    """Words between two marks, as in BERT; padded and cut, as the one that ships with MiniLM."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    made = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=marks)
    made.enable_padding(length=6)
    made.enable_truncation(6)
    return made


def random_tensors(seed=0):
    """By their names in BERT; large enough that attention is far from even."""
    rng = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (4 + len(WORDS), WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **norm_shapes("embeddings.LayerNorm"),
    }
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= dense_shapes(f"{layer}.attention.{part}", WIDTH, WIDTH)
        shapes |= norm_shapes(f"{layer}.attention.output.LayerNorm")
        shapes |= dense_shapes(f"{layer}.intermediate.dense", WIDTH, INNER)
        shapes |= dense_shapes(f"{layer}.output.dense", INNER, WIDTH)
        shapes |= norm_shapes(f"{layer}.output.LayerNorm")
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def dense_shapes(name, num_in, num_out):
    return {f"{name}.weight": (num_out, num_in), f"{name}.bias": (num_out,)}


def norm_shapes(name):
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def reference(tensors, ids, *, pooling="mean"):
    """The vector of one sentence without padding, in float32."""

    def dense(name, x):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(name, x):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + np.float32(1e-12))
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    words, positions, segments = (
        tensors[f"embeddings.{kind}_embeddings.weight"]
        for kind in ("word", "position", "token_type")
    )
    x = norm("embeddings.LayerNorm", words[ids] + positions[: len(ids)] + segments[0])
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        heads = []
        q, k, v = (dense(f"{layer}.attention.self.{p}", x) for p in ("query", "key", "value"))
        for own in np.split(np.arange(WIDTH), HEADS):
            scores = q[:, own] @ k[:, own].T / np.float32(np.sqrt(len(own)))
            e = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(e / e.sum(axis=1, keepdims=True) @ v[:, own])
        read = dense(f"{layer}.attention.output.dense", np.concatenate(heads, axis=1))
        x = norm(f"{layer}.attention.output.LayerNorm", x + read)
        wide = dense(f"{layer}.intermediate.dense", x)
        wide = wide * (1 + erf(wide / np.float32(np.sqrt(2)))) / 2
        x = norm(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", wide))
    pooled = x[0] if pooling == "first" else x.mean(axis=0)
    return pooled / np.linalg.norm(pooled)
