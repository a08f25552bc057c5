"""The kit for accelerators: stages in their time, failures told, a wrong formulation found."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import accelerator
from experiments.devices import checks, jobs, peaks, speed, stages, summary
from jaxmeta.networks import _conv_lowerings


def setting(out):
    return stages.Setting(small=True, seed=0, out=out, seconds=1.0)


def stage_of(measures):
    items = [stages.Item(name, measure) for name, measure in measures.items()]
    return stages.Stage("some", 1.0, lambda setting: iter(items))


def test_a_stage_goes_past_failures_and_on_where_it_stopped(tmp_path):
    """Killed in the middle: what was measured is on file."""
    counted = []

    def measure(name, wrong=()):
        counted.append(name)
        if name in wrong:
            raise checks.Failed(f"{name} is off")
        return {"ms": 1.0}

    late = time.monotonic() - 1.0
    broken = stage_of({name: lambda name=name: measure(name, "b") for name in "abc"})
    found = stages.run_stage("some", broken, setting(tmp_path), late + 100.0)
    assert [row["item"] for row in found["rows"]] == ["a", "c"]
    assert found["failures"] == {"b": "Failed: b is off"} and found["left_out"] == 0
    whole = stage_of({name: lambda name=name: measure(name) for name in "abcd"})
    found = stages.run_stage("some", whole, setting(tmp_path), late)
    assert [row["item"] for row in found["rows"]] == ["a", "c"] and found["left_out"] == 2
    found = stages.run_stage("some", whole, setting(tmp_path), late + 100.0)
    assert len(found["rows"]) == 4 and counted == ["a", "b", "c", "b", "d"]
    assert json.loads((tmp_path / "some.json").read_text()) == found


def test_the_first_item_is_measured_whatever_the_time(tmp_path):
    stage = stage_of({name: lambda: {"ms": 1.0} for name in "ab"})
    found = stages.run_stage("some", stage, setting(tmp_path), time.monotonic() - 1.0)
    assert [row["item"] for row in found["rows"]] == ["a"] and found["left_out"] == 1


@pytest.mark.parametrize("formulation", ["patches", "grouped", "loop"])
def test_a_wrong_formulation_is_found_and_named(formulation, monkeypatch):
    assert max(checks.convolution(formulation, "float32", 0).values()) < 1e-5
    right = _conv_lowerings._plain_kernel_grad, _conv_lowerings._patches
    monkeypatch.setattr(_conv_lowerings, "_plain_kernel_grad", lambda *a: 1.01 * right[0](*a))
    monkeypatch.setattr(_conv_lowerings, "_patches", lambda *a: jnp.roll(right[1](*a), 1, axis=-1))
    jax.clear_caches()
    with pytest.raises(checks.Failed, match=f"of the convolution by {formulation} is off by"):
        checks.convolution(formulation, "float32", 0)
    jax.clear_caches()


def test_what_holds_on_this_device_is_said_to():
    assert checks.scan_without_transfers(0) == {"steps": 5}
    assert checks.donation(0)["given_away"] > 0
    assert checks.outer_step("prototypes", checks.LEARNERS["prototypes"], 0) == {"off": 0.0}


def test_a_device_that_differs_is_told():
    def odd(x):
        return x * jnp.nan

    with pytest.raises(checks.Failed, match="device and CPU differ"):
        checks.on_both(odd, jnp.ones(3))


def rows_of(times, operation="conv"):
    """`times[channels] = (loop, grouped, patches)`."""
    return [
        {"operation": operation, "dtype": "float32", "channels": channels}
        | dict(zip(speed.FORMULATIONS, each, strict=True))
        for channels, each in times.items()
    ]


def test_the_table_follows_what_was_measured(tmp_path, monkeypatch):
    times = {1: (9.0, 4.0, 1.0), 3: (9.0, 3.0, 2.0), 64: (9.0, 1.0, 3.0)}
    rows = rows_of(times) + rows_of({1: (1.0, 2.0, 3.0), 64: (1.0, 2.0, 3.0)}, "kernel_grad")
    assert speed.rules(rows) == {
        "conv": [
            {"channels_below": 6, "formulation": "patches"},
            {"channels_below": None, "formulation": "grouped"},
        ],
        "kernel_grad": [{"channels_below": None, "formulation": "loop"}],
    }
    table = tmp_path / "formulations.json"
    table.write_text('{"any": {}, "cpu": {}}')
    monkeypatch.setattr(speed.resources, "files", lambda package: tmp_path)
    assert speed.write_table(rows) == table
    assert json.loads(table.read_text()) == {"any": {}, "cpu": speed.rules(rows)}
    with pytest.raises(ValueError, match="measured too little"):
        speed.write_table(rows[:3])


def test_speed_is_measured_by_shape_dtype_and_chunk():
    row = speed.formulation("kernel_grad", "float32", (2, 1, 4, 1, 2))
    assert row["best"] == min(speed.FORMULATIONS, key=row.__getitem__)
    assert speed.chunk("sinusoid_maml", 2, 1)["ms"] > 0
    row = speed.outer_step("sinusoid_maml", 2, 1, "float32", None, {"peak_gflops": 1.0})
    assert row["tasks_per_s"] > 0 and row["to_hand_written"] > 0 and row["loss_off"] == 0.0
    assert peaks.product(16, "bfloat16", None)["tflops"] > 0 and peaks.copy(16)["gbytes_per_s"] > 0


def test_the_long_training_fits_its_time_also_after_a_resume(tmp_path):
    """At 16 tables a step and 160 a second, two thirds of a minute; what `scan` divides."""
    record = {"key": ["50 steps", 0, False], "found": {"seconds": 5.0, "tables_per_s": 160.0}}
    (tmp_path / "tabular.jsonl").write_text(json.dumps(record))
    large = stages.Setting(small=False, seed=0, out=tmp_path, seconds=60.0)
    assert [item.name for item in jobs.tables(large)] == ["50 steps", "390 steps"]


def test_two_devices_are_one_where_there_are_two():
    if jax.device_count() == 1:
        (item,) = jobs.several(setting(None))
        assert item.measure() == {"devices": 1}
    for way in ("pmap", "shard"):
        assert jobs.same_as_one(way, 0)["off"] < 1e-6


def test_the_command_reports_every_stage_and_fails_with_a_check(tmp_path, capsys, monkeypatch):
    fine = stage_of({"a": lambda: {"ms": 1.0}})

    def wrong():
        raise checks.Failed("it is off")

    monkeypatch.setattr(accelerator, "STAGES", {"device": fine, "checks": fine})
    arguments = ["--out", str(tmp_path), "--only", "device", "checks", "--json"]
    assert accelerator.main(arguments) == 0
    assert set(json.loads(capsys.readouterr().out)["stages"]) == {"device", "checks"}
    for name in ("device", "checks"):  # nothing is on file, and nothing is measured
        (tmp_path / f"{name}.jsonl").unlink()
    assert accelerator.main(["--out", str(tmp_path), "--steps", "0"]) == 0
    assert "1 left out" in (tmp_path / "report.md").read_text()
    assert accelerator.main([*arguments, "--write-table"]) == 2
    assert "no table to write" in capsys.readouterr().err
    monkeypatch.setitem(accelerator.STAGES, "checks", stage_of({"a": wrong}))
    assert accelerator.main(["--out", str(tmp_path)]) == 1
    report = (tmp_path / "report.md").read_text()
    assert "1 FAILED" in report and "FAILED a: Failed: it is off" in report


def test_there_is_a_picture_of_what_was_measured(tmp_path):
    rows = [{"item": str(i), "loop": 1.0, "grouped": 2.0, "patches": 3.0} for i in range(3)]
    peaks = [{"item": summary.PRODUCT, "tflops": 1.0}, {"item": "copy", "gbytes_per_s": 10.0}]
    step = {"case": "a", "meta_batch": 4, "inner_steps": 1, "gflops": 9.0, "flops_per_byte": 2.0}
    summary.draw({"formulations": {"rows": rows}, "device": {"rows": peaks}}, tmp_path)
    assert (tmp_path / "formulations.png").stat().st_size > 1000
    assert not (tmp_path / "throughput.png").exists()
    summary.draw({"throughput": {"rows": [step]}, "device": {"rows": peaks}}, tmp_path)
    assert (tmp_path / "throughput.png").stat().st_size > 1000


@pytest.mark.slow
def test_all_stages_are_passed_through(tmp_path):
    assert accelerator.main(["--minutes", "0.02", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "report.json").read_text())["stages"]
    assert set(found) == set(accelerator.STAGES)
    assert all(stage["rows"] and not stage["failures"] for stage in found.values())
    assert np.isfinite(found["device"]["rows"][0]["count"])
