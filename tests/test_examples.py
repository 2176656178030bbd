"""The examples run as a user runs them."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def run(*arguments, cwd):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    done = run(ROOT / "examples" / "toy.py", "--preset", "smoke", "--out", folder, cwd=folder)
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
    done = run(ROOT / "examples" / "toy.py", "--preset", "large", cwd=tmp_path)
    assert done.returncode != 0
    assert "smoke" in done.stderr + done.stdout
    assert "paper" in done.stderr + done.stdout
