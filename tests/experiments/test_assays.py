"""Assays of molecules, at toy size: files, splits, what must not leak, AUC, the document."""

import json

import jax
import numpy as np
import pytest

from experiments import assays
from experiments.molecules import fitting, rivals, tables, tasks
from experiments.molecules.assays import Assays, folds, held_out, load, split, without_duplicates
from experiments.molecules.fitting import NEVER, SCREENED, Plan
from experiments.molecules.learners import FAMILIES

PLAN = Plan(shots=3, queries=4, steps=2, held_share=0.3, seed=0, sizes=(8, 4))


def toy(num_molecules=160, num_assays=8, seed=0):
    """Assays that go by a part of the fingerprint; every sixth label is unknown."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 256, (num_molecules, 4)).astype(np.uint8)
    numbers = np.unpackbits(bits, axis=1) - 0.5
    label = (numbers @ rng.normal(size=(32, num_assays)) > 0).astype(np.int8)
    label[rng.random(label.shape) < 1 / 6] = -1
    return Assays("toy", bits, label, np.array([f"assay {n}" for n in range(num_assays)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, data = tmp_path_factory.mktemp("data"), toy()
    (root / "assays").mkdir()
    smiles = np.array([f"C{n}" for n in range(len(data.bits))])
    arrays = {"fingerprint_bits": data.bits, "label": data.label, "task": data.task}
    np.savez(root / "assays" / "toy.npz", **arrays, smiles=smiles)
    return root


def test_rows_of_one_molecule_are_one_and_may_disagree():
    label = np.array([[1, -1, 0], [0, 1, -1], [1, 0, -1], [-1, -1, 0]], np.int8)
    data = Assays("a", np.arange(8, dtype=np.uint8).reshape(4, 2), label, np.array(list("abc")))
    got = without_duplicates(data, np.array(["CO", "N", "CO", "CO"]))
    np.testing.assert_array_equal(got.label, [[1, 0, 0], [0, 1, -1]])
    np.testing.assert_array_equal(got.bits, data.bits[:2])
    assert (got.duplicates, got.conflicts) == (2, 0)
    label[3, 0] = 0
    got = without_duplicates(data, np.array(["CO", "N", "CO", "CO"]))
    assert got.conflicts == 1 and got.label[0, 0] == -1


def test_the_last_quarter_is_judged_as_published():
    for count, test in ((12, range(9, 12)), (27, range(21, 27)), (3, [2]), (17, range(13, 17))):
        train, judged = split(count)
        np.testing.assert_array_equal(judged, list(test))
        np.testing.assert_array_equal(np.concatenate([train, judged]), np.arange(count))
    for learn, choose in folds(split(12)[0], 3):
        assert len(choose) == 3 and not set(learn) & set(choose) and max(choose) < 9
    assert folds(np.array([0]), 3) == []


def test_one_fingerprint_is_on_one_side():
    data = toy(80)
    data = data._replace(
        bits=np.concatenate([data.bits] * 2), label=np.concatenate([data.label] * 2)
    )
    out = held_out(data, np.array([7]), share=0.2, least=20, seed=3)
    np.testing.assert_array_equal(out[:80], out[80:])
    assert 0.2 <= out.mean() < 0.8
    for label in (0, 1):
        have = np.sum(data.label[:80, 7] == label)
        assert np.sum(data.label[:80, 7][out[:80]] == label) >= min(20, have // 2)


def trained(data, setting):
    part = fitting.final_part(data, setting, PLAN)
    made = fitting.programs("prototypes", data.bits.shape[1], PLAN)
    pool = fitting.pool_for(data, part, 0.3)
    state = fitting.start(made, pool, fitting.Choice(1.0, 0.3, 2), PLAN)
    return part, jax.device_get(made.run(state, pool)[0].theta)


def test_training_reads_no_test_assay_and_no_held_out_molecule():
    data, (_, test) = toy(), split(8)
    _, theta = trained(data, SCREENED)
    other = data._replace(label=data.label.copy())
    other.label[:, test] = 1
    jax.tree.map(np.testing.assert_array_equal, trained(other, SCREENED)[1], theta)
    part, theta = trained(data, NEVER)
    assert not set(part.learned.rows) & set(part.judged.rows) and not len(part.learned.columns)
    other = data._replace(bits=data.bits.copy())
    other.bits[part.judged.rows, 0] ^= 255
    pool = fitting.pool_for(data, part, 0.3)
    pools = (pool, pool._replace(x=jax.numpy.asarray(other.bits)))
    made = fitting.programs("prototypes", 4, PLAN)
    for pool in pools:
        state = fitting.start(made, pool, fitting.Choice(1.0, 0.3, 2), PLAN)
        jax.tree.map(np.testing.assert_array_equal, made.run(state, pool)[0].theta, theta)


@pytest.mark.parametrize("setting", [SCREENED, NEVER])
def test_choices_are_made_among_training_assays_alone(setting):
    data, (train, test) = toy(), split(8)
    final = fitting.final_part(data, setting, PLAN)
    parts = fitting.choosing_parts(data, setting, PLAN)
    assert len(parts) == 3
    for part in parts:
        assert set(part.learn) | set(part.judge) <= set(train) and not set(part.judge) & set(test)
        assert not set(part.learn) & set(part.judge)
        assert set(part.learned.rows) | set(part.judged.rows) <= set(final.learned.rows)
        blank = np.isin(part.judged.columns, part.judge)
        assert not part.judged.x[:, 4:][:, blank].any()
        if setting == NEVER:
            assert not set(part.learned.rows) & set(part.judged.rows)


def test_a_training_task_does_not_read_its_own_assay():
    data = toy()
    part = fitting.final_part(data, SCREENED, PLAN)
    pool = fitting.pool_for(data, part, 0.0)
    for n in range(6):
        task = tasks.draw(pool, jax.random.key(n), shots=3, queries=4)
        x = np.concatenate([task.support.x, task.query.x])
        y = np.concatenate([task.support.y, task.query.y])
        (mine,) = np.flatnonzero(~x[:, 4:].any(axis=0))
        for row, label in zip(x, y, strict=True):
            (at,) = np.flatnonzero((data.bits == row[:4]).all(axis=1))
            assert data.label[at, mine] == label
            known = np.delete(data.label[at, :6], mine) + 1
            np.testing.assert_array_equal(np.delete(row[4:], mine), known)


def test_a_draw_judges_all_that_is_known_but_its_support():
    data = toy()
    table = fitting.final_part(data, SCREENED, PLAN).judged
    batch = tasks.draws(table, 7, shots=3, count=2, most=200, seed=-5)
    known = np.sum(data.label[:, 7] >= 0)
    np.testing.assert_array_equal(batch.query.mask.sum(axis=1), [known - 6] * 2)
    np.testing.assert_array_equal(batch.support.y.sum(axis=1), [3, 3])
    assert not np.array_equal(batch.support.x[0], batch.support.x[1])
    fits = tasks.draws(table, 7, shots=3, count=2, most=known - 6, seed=-5)
    np.testing.assert_array_equal(fits.query.x, batch.query.x[:, : known - 6])
    few = tasks.draws(table, 7, shots=3, count=2, most=20, seed=-5)
    np.testing.assert_array_equal(few.query.y.sum(axis=1), [10, 10])
    again = tasks.draws(table, 7, shots=3, count=2, most=200, seed=-5)
    jax.tree.map(np.testing.assert_array_equal, again, batch)


def test_auc_counts_pairs_and_halves_ties():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 6, (50, 2)).astype(np.float32)
    y, mask = rng.integers(0, 2, 50), (rng.random(50) < 0.8).astype(np.float32)
    score = (z[:, 1] - z[:, 0])[mask == 1]
    active, inactive = (score[y[mask == 1] == label] for label in (1, 0))
    pairs = active[:, None] - inactive[None]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    np.testing.assert_allclose(tasks.auc(z, y, mask), expected, rtol=1e-5)


def test_tanimoto_is_the_share_of_common_bits():
    x, query = np.array([[1.0, 1, 0], [0, 1, 1]]), np.array([[1.0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(rivals.tanimoto(x, np.array([0, 1]), query), [-0.5, 0.0])


def test_intervals_are_over_draws_and_over_assays():
    values = np.array([[0.5, 0.7], [0.7, 0.9]])
    found = tables.both_intervals(values)
    assert found["auc"] == pytest.approx(0.7)
    assert found["ci95"] == pytest.approx(1.96 * 0.1, rel=1e-3)
    assert found["ci95_assays"] == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert np.isnan(tables.both_intervals(values[:1])["ci95_assays"])


def run(folder, out, *more):
    flags = ["--data-dir", str(folder), "--shots", "3", "--draws", "2", "--queries", "4"]
    code = assays.main([*flags, "--out", str(out), *more])
    return code, json.loads((out / "result.json").read_text()) if code == 0 else None


def test_assays_writes_both_settings_and_goes_on(folder, tmp_path, capsys, monkeypatch):
    flags = ("--steps", "2", "--learner", "prototypes", "--json")
    code, document = run(folder, tmp_path, *flags)
    assert code == 0 and json.loads(capsys.readouterr().out) == document
    assert document["data"]["toy"]["test_assays"] == ["assay 6", "assay 7"]
    rows = document["results"]
    for setting, count in ((SCREENED, 6), (NEVER, 4)):
        mine = [row for row in rows if row["setting"] == setting]
        assert len(mine) == count and mine[0]["name"] == "prototypes"
        assert mine[0]["ahead"]["of"] in {row["name"] for row in mine[1:]}
        for row in mine:
            assert row["data"] == "toy" and 0.2 < row["auc"] <= 1 and row["ci95"] >= 0
            assert list(row["assays"]) == ["assay 6", "assay 7"] and row["inductive"]
    assert (tmp_path / "assays.png").stat().st_size > 1000
    monkeypatch.setattr(assays, "judge_rival", None)  # they are not fitted again
    code, again = run(folder, tmp_path, *flags, "--resume")
    assert code == 0 and again["results"] == rows


@pytest.mark.slow
def test_every_family_learns_from_the_labels_of_other_assays(folder, tmp_path):
    code, document = run(folder, tmp_path, "--steps", "8")
    assert code == 0
    rows = [row for row in document["results"] if row["name"] in FAMILIES]
    assert len(rows) == 2 * len(FAMILIES)
    assert all(row["auc"] > 0.5 for row in rows if row["setting"] == SCREENED)


def test_what_is_no_file_of_assays_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"holds no file of assays"):
        assays.files(str(tmp_path))
    np.savez(tmp_path / "a.npz", label=np.zeros(3))
    with pytest.raises(ValueError, match="lacks fingerprint_bits"):
        load(str(tmp_path), "a")
    bits, smiles = np.zeros((2, 4), np.uint8), np.array(["C", "N"])
    for label, said in (([[0], [1]], "one assay"), ([[0, 2], [1, 0]], "labels of 1, 0 or -1")):
        task = np.array(["a", "b"][: len(label[0])])
        np.savez(
            tmp_path / "b.npz",
            fingerprint_bits=bits,
            label=np.int8(label),
            task=task,
            smiles=smiles,
        )
        with pytest.raises(ValueError, match=said):
            load(str(tmp_path), "b")
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
    with pytest.raises(ValueError, match="--data-dir DIR"):
        load(None, "toy")


def test_too_few_molecules_end_in_a_sentence(folder, tmp_path, capsys):
    assert run(folder, tmp_path, "--shots", "90")[0] == 2
    assert "lower --shots" in capsys.readouterr().err
