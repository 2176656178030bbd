"""The documentation as it is read: its blocks run, its numbers come from records, its site needs no network."""

import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/getting-started.md",
    "docs/algebra.md",
    "docs/your-step.md",
    "docs/jax-cfd.md",
    "docs/your-data.md",
    "docs/stiff.md",
    "docs/your-program.md",
    "docs/calibration.md",
    "docs/exact.md",
    "docs/scales.md",
    "docs/deterministic.md",
]

# Sizes of the pages' blocks, made small: the blocks are tested here, not what they find out.
SMALL = [
    (r"updates=[\d_]+", "updates=20"),
    (r"jnp\.arange\(2000\) < 1000", "jnp.arange(64) < 32"),
    (r"np\.linspace\(0, 1, 501\)", "np.linspace(0, 1, 21)"),
    (r"\b[24]000, key", "50, key"),
    (r"simulations=[\d_]+", "simulations=20_000"),
]


def run(code, **env):
    """Run code as a user does: a fresh interpreter without the tests' strictness, but warnings are errors."""
    # But this one: scores that are hardly trained may well explode, and the library says so.
    strict = ["-W", "error", "-W", "default::RuntimeWarning", "-W", "ignore:Error reading persistent compilation cache"]
    command = [sys.executable, *strict, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def code_lines(text):
    """Lines that are neither blank, nor a comment, nor a module's docstring."""
    text = re.sub(r'\A""".*?"""', "", text, flags=re.DOTALL)
    return [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(page):
    code = "\n".join(blocks(page))
    for long, short in SMALL:
        code = re.sub(long, short, code)
    # Their programs are run once: a quick compilation is worth more than a fast program.
    assert run(code, JAX_DISABLE_MOST_OPTIMIZATIONS="1").strip()


def test_no_page_with_blocks_is_left_out():
    pages = ["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md"))]
    assert {page for page in pages if blocks(page)} == set(PAGES)


def test_the_readmes_example_has_at_most_15_lines():
    assert len(code_lines(blocks("README.md")[0])) <= 15


def test_a_new_problem_takes_at_most_15_lines():
    assert len(code_lines((ROOT / "examples/your_problem.py").read_text())) <= 15


def test_the_new_problem_runs_and_its_intervals_hold():
    # A fifth of the updates is enough for fair intervals.
    code, short = (ROOT / "examples/your_problem.py").read_text(), "key=k[3], curriculum=[sx.Stage(updates=2_000)])"
    assert code.count("key=k[3])") == 1
    printed = run(code.replace("key=k[3])", short))
    inside = [float(number) for number in re.findall(r"\d\.\d*", printed.split(":")[-1])]
    # 200 cases: a fair 90 % has a standard deviation of .02.
    assert len(inside) == 2
    assert all(0.8 < fraction < 0.97 for fraction in inside)


def test_the_readmes_table_is_that_of_the_record():
    update = runpy.run_path(str(ROOT / "docs/update_readme.py"))["updated"]
    readme = (ROOT / "README.md").read_text()
    assert update(readme) == readme, "run `python docs/update_readme.py`"


@pytest.fixture
def records(monkeypatch):
    """The names of `docs/records.py`, which imports what lies beside it."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return runpy.run_path(str(ROOT / "docs/records.py"))


def test_a_table_names_its_command_its_versions_and_its_date(records, tmp_path):
    rows = [{"method": "one-step", "fraction": 1.0, "training s per seed": 12.3, "seeds": []}]
    columns = dict.fromkeys(("Q flow", "Q noise-free", "Q SDE", "posterior error", "score error", "slope"), 0.5)
    rows[0]["seeds"] = [columns, columns]
    record = {
        "command": "python some.py",
        "versions": {"jax": "1.2.3", "date": "2026-01-02", "device": "cpu"},
        "rows": rows,
    }
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/toy_cpu.json").write_text(json.dumps(record))
    records["toy_table"].__globals__["RESULTS"] = tmp_path
    table = records["toy_table"]()
    for part in ("one-step", "python some.py", "jax 1.2.3", "2026-01-02", "12 s a seed"):
        assert part in table


def test_a_bar_in_a_cell_does_not_end_it(records):
    table = records["tables_of"]([{"verdict": "|k| = 0: narrow", "CRPS": 0.5}])
    assert table.splitlines()[-1] == r"| \|k\| = 0: narrow | 0.5 |"


def test_a_table_whose_record_is_missing_says_so(records, tmp_path):
    records["toy_table"].__globals__["RESULTS"] = tmp_path
    names = (
        "toy_table",
        "toy_figures",
        "ou_table",
        "factor_two",
        "benchmark_fit",
        "benchmark_lorenz63",
        "benchmark_peers",
        "benchmark_store",
    )
    for name in names:
        assert records[name]().startswith("Not run yet")


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        (
            "## Run it",
            'python3 -m venv .venv && .venv/bin/python -m pip install -q -e ".[examples]" '
            "&& .venv/bin/python examples/toy.py",
        ),
        (
            "## Test it",
            'python3 -m venv .venv && .venv/bin/python -m pip install -q -e ".[dev]" && .venv/bin/python -m pytest',
        ),
    ],
)
def test_the_readme_has_the_two_commands(heading, command):
    assert f"{heading}\n\n```\n{command}\n```\n" in (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `mkdocs build --strict` makes it."""
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_loads_nothing_from_a_network(site):
    loads = re.compile(
        r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
        r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preconnect|preload|icon|dns-prefetch|modulepreload))"
        r"[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
        r"|@import[^;]*//|url\([\"']?(?:https?:)?//",
    )
    for page in site.rglob("*.html"):
        assert not loads.search(page.read_text()), page.name
    for sheet in site.rglob("*.css"):
        assert not loads.search(sheet.read_text()), sheet.name


def test_formulas_are_rendered(site):
    pages = {page.name: page.read_text() for page in site.glob("*.html")}
    assert pages["factor-two.html"].count("<math") > 20
    for name, text in pages.items():
        assert "arithmatex" not in text, name
        prose = re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL)
        assert not re.search(r"\\(?:frac|tfrac|nabla|mathrm)|<merror", prose), name


def test_the_reference_has_every_public_name(site):
    import smdpx as sx

    reference = (site / "api.html").read_text()
    modules = {"smdpx": sx, "smdpx.exact": sx.exact, "smdpx.metrics": sx.metrics, "smdpx.nn": sx.nn}
    modules |= {"smdpx.data": sx.data, "smdpx.physics": sx.physics}
    for prefix, module in modules.items():
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", "").startswith("smdpx"):
                assert f'id="{prefix}.{name}"' in reference, f"{prefix}.{name} is missing in docs/api.md"
