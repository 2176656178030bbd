"""The examples run as a user runs them."""

import dataclasses
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


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    done = run(ROOT / "examples/paper/toy/main.py", "--preset", "smoke", "--out", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_toy_example_prints_its_table(smoke):
    assert "| multi-step | 100% |" in smoke[1].stdout


def test_the_toy_example_records_its_run(smoke):
    record = json.loads((smoke[0] / "toy_smoke.json").read_text())
    assert {row["method"] for row in record["rows"]} >= {"exact score", "one-step", "two-way", "ISM", "SSM-VR"}
    assert record["versions"]["jax"]


def test_the_toy_example_draws_its_figures(smoke):
    figures = {path.name for path in smoke[0].glob("*.png")}
    assert figures == {"paths.png", "score_fields.png", "posterior.png", "ou.png"}


def test_an_unknown_preset_is_an_error_that_lists_the_known_ones(tmp_path):
    done = run(ROOT / "examples/paper/toy/main.py", "--preset", "large", cwd=tmp_path)
    assert done.returncode != 0
    assert "smoke" in done.stderr + done.stdout
    assert "paper" in done.stderr + done.stdout


@pytest.fixture(scope="module")
def heat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heat")
    done = run(ROOT / "examples/paper/heat/main.py", "--preset", "smoke", "--out", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_heat_example_prints_its_table(heat):
    assert "| exact posterior mean |" in heat[1].stdout
    assert "| `-P + 2*s + g`, exponential |" in heat[1].stdout
    assert "| ensemble Kalman smoother by mode, mean |" in heat[1].stdout


def test_the_heat_example_records_every_part(heat):
    records = {path.stem: json.loads(path.read_text()) for path in heat[0].glob("*_smoke.json")}
    assert records.keys() == {f"{part}_smoke" for part in ("inferences", "baselines", "windows", "shifts", "solvers")}
    assert {row["scheme"] for row in records["inferences_smoke"]["rows"]} == {"exact", "mirrored step", "exponential"}


def test_the_heat_example_draws_its_figures(heat):
    figures = {path.stem for path in heat[0].glob("*.png")}
    assert figures == {"gallery", "posterior_fields", "inferences", "windows", "shifts", "solvers"}


def test_a_training_of_the_paper_preset_is_sharded_and_resumes(tmp_path):
    from heat.presets import PRESETS
    from heat.problem import MIRRORED
    from heat.train import train

    size = dataclasses.replace(PRESETS["smoke"], resumable=True, seeds=1)
    short, whole = ([sx.Stage(2, updates, optax.constant_schedule(0.1), batch=64)] for updates in (5, 10))
    train(size, MIRRORED, short, tmp_path)
    (tmp_path / "mirrored_step-2.eqx").unlink()  # as if it had been stopped before it ended
    resumed, _ = train(size, MIRRORED, whole, tmp_path)
    straight, _ = train(size, MIRRORED, whole, tmp_path / "other")
    assert eqx.tree_equal(resumed[0].net, straight[0].net)
