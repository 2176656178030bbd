"""The examples run as a user runs them, by their smoke presets: each once."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import equinox as eqx
import optax
import pytest

import smdpx as sx

ROOT = pathlib.Path(__file__).parent.parent


def run(*arguments, cwd):
    # Their programs are run once: a quick compilation is worth more than a fast program.
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)


def smoke(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    done = run(ROOT / "examples" / name, "--preset", "smoke", "--out", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.parametrize("name", ["toy", "heat", "lorenz", "kuramoto_sivashinsky", "burgers", "turbulence", "buoyancy"])
def test_an_example_is_one_file_that_is_read_from_top_to_bottom(name):
    lines = (ROOT / "examples" / f"{name}.py").read_text().splitlines()
    assert 40 <= len(lines) <= 80


def test_the_toy_example_prints_its_table_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("toy.py", tmp_path_factory)
    for score in ("exact", "one-step", "multi-step", "ISM"):
        assert f"| {score} |" in done.stdout
    assert "examples/paper/toy/main.py" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["toy.png"]


def test_the_heat_example_prints_its_table_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("heat.py", tmp_path_factory)
    for answer in ("exact posterior mean", "`-P + 2*s`", "exact posterior sample", "`-P + 2*s + g`", "`-P + s`"):
        assert f"| {answer} |" in done.stdout
    assert "examples/paper/heat/main.py" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["heat.png"]


def test_the_lorenz_example_prints_its_table_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("lorenz.py", tmp_path_factory)
    for answer in (
        "ensemble Kalman smoother",
        "Euler window; Heun, 60 steps",
        "window; ShARK, 60 steps",
        "transition; SRA1",
    ):
        assert f"| {answer}" in done.stdout
    assert [path.name for path in folder.iterdir()] == ["lorenz.png"]


def test_the_kuramoto_sivashinsky_example_calibrates_wave_by_wave_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("kuramoto_sivashinsky.py", tmp_path_factory)
    assert "\n|k| = " in done.stdout
    assert "CRPS: " in done.stdout
    assert [path.name for path in folder.iterdir()] == ["ks.png"]


def test_the_burgers_example_calibrates_wave_by_wave_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("burgers.py", tmp_path_factory)
    assert "\n|k| = " in done.stdout
    assert "CRPS: " in done.stdout
    assert [path.name for path in folder.iterdir()] == ["burgers.png"]


def test_the_turbulence_example_keeps_its_data_prints_its_table_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("turbulence.py", tmp_path_factory)
    for answer in ("`R`", "`R + s`", "`R + 2*s`", "`R + 2*s + g`", "ensemble Kalman smoother"):
        assert f"| {answer} |" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"data", "turbulence.png"}


def test_the_buoyancy_example_keeps_its_data_prints_its_table_and_draws_its_figure(tmp_path_factory):
    folder, done = smoke("buoyancy.py", tmp_path_factory)
    for answer in ("`-P`", "`-P + s`", "`-P + 2*s`", "`-P + 2*s + g`"):
        assert f"| {answer} |" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"data", "buoyancy.png"}


def test_an_unknown_preset_is_an_error_that_lists_the_known_ones(tmp_path):
    done = run(ROOT / "examples/paper/toy/main.py", "--preset", "large", cwd=tmp_path)
    assert done.returncode != 0
    assert "smoke" in done.stderr + done.stdout
    assert "paper" in done.stderr + done.stdout


# Each of the two runs takes most of a minute, so all that is asked of one is asked in one place.


def test_the_papers_toy_run_prints_records_and_draws(tmp_path_factory):
    folder, done = smoke("paper/toy/main.py", tmp_path_factory)
    for method in ("exact score", "multi-step", "one-step, two-way", "ISM"):
        assert f"| {method} | 100% |" in done.stdout
    record = json.loads((folder / "toy_smoke.json").read_text())
    assert {row["method"] for row in record["rows"]} == {"exact score", "multi-step", "one-step, two-way", "ISM"}
    assert record["versions"]["jax"]
    assert {path.stem for path in folder.glob("*.png")} == {"paths", "score_fields", "posterior", "ou"}


def test_every_training_of_the_papers_toy_tables_runs_by_default():
    from toy.main import METHODS
    from toy.presets import PRESETS

    for name in ("cpu", "paper"):
        assert set(PRESETS[name].methods) == METHODS.keys() == PRESETS[name].curricula.keys()


def test_the_papers_heat_run_prints_records_and_draws(tmp_path_factory):
    folder, done = smoke("paper/heat/main.py", tmp_path_factory)
    for row in ("exact posterior mean", "`-P + 2*s + g`, exponential", "ensemble Kalman smoother by mode, mean"):
        assert f"| {row} |" in done.stdout
    records = {path.stem: json.loads(path.read_text()) for path in folder.glob("*_smoke.json")}
    parts = ("limits", "inferences", "baselines", "windows", "shifts", "solvers")
    assert records.keys() == {f"{part}_smoke" for part in parts}
    assert {row["scheme"] for row in records["inferences_smoke"]["rows"]} == {"exact", "mirrored step", "exponential"}
    figures = {path.stem for path in folder.glob("*.png")}
    assert figures == {"gallery", "posterior_fields", "inferences", "windows", "shifts", "solvers"}


def test_the_papers_turbulence_run_prints_records_and_draws(tmp_path_factory):
    folder, done = smoke("paper/turbulence/main.py", tmp_path_factory)
    for row in (
        "surrogate | no score, `R`",
        "surrogate, then score | SDE, `R + 2*s + g`",
        "both at once | flow, `R + s`",
        "ensemble Kalman smoother",
    ):
        assert f"| {row} |" in done.stdout
    record = json.loads((folder / "inferences_smoke.json").read_text())
    assert record["rows"][0]["MSE"] > 0
    assert {path.name for path in folder.glob("*.*g*") if path.is_file()} == {
        "backwards.png", "spectra.png", "errors.png", "backwards.gif"
    }  # fmt: skip


class Stopped(Exception):
    pass


def stop_half_way(progress):
    if progress.update >= 5:
        raise Stopped


def test_a_training_of_the_paper_preset_is_sharded_and_resumes(tmp_path, monkeypatch):
    from heat.presets import PRESETS
    from heat.problem import MIRRORED
    from heat.train import train

    size = dataclasses.replace(PRESETS["smoke"], resumable=True, seeds=1)
    curriculum = [sx.Stage(2, 10, optax.constant_schedule(0.1), batch=64)]
    with monkeypatch.context() as patch:
        patch.setattr(sx, "fit", functools.partial(sx.fit, callback=stop_half_way))
        with pytest.raises(Stopped):
            train(size, MIRRORED, curriculum, tmp_path)
    resumed, _ = train(size, MIRRORED, curriculum, tmp_path)
    straight, _ = train(size, MIRRORED, curriculum, tmp_path / "other")
    assert eqx.tree_equal(resumed[0].net, straight[0].net)


def test_one_heat_score_is_trained_and_compared_at_many_conditions(tmp_path):
    done = run(ROOT / "examples/paper/heat/conditions.py", "--preset", "smoke", "--out", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "conditions_smoke.json").read_text())["rows"]
    assert (row["alpha"], row["g"], len(row["variance"])) == (1.0, 0.1, 16)


def test_the_papers_buoyancy_run_prints_records_and_draws(tmp_path_factory):
    folder, done = smoke("paper/buoyancy/main.py", tmp_path_factory)
    for row in (
        "reverse physics only | `-P`",
        "score only",
        "joint | SDE",
        "split | flow",
        "simulator's gradient | L-BFGS",
    ):
        assert f"| {row}" in done.stdout
    record = json.loads((folder / "inferences_smoke.json").read_text())
    assert {row["t"] for row in record["rows"]} == {0.35, 0.01}
    assert {path.name for path in folder.glob("*.*g*") if path.is_file()} == {
        "backwards.png", "middle.png", "posterior.png", "ranks.png", "backwards.gif"
    }  # fmt: skip
