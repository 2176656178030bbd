"""Tables and figures of the results, made from the records of runs under `docs/results`; no number is typed.

Each public function returns Markdown, and says `Not run yet` where its record is missing. `mkdocs build`
calls them through `hooks.py`, and `update_readme.py` two of them for the README.
"""

import importlib.util
import json
import pathlib
from typing import Any

from tables import markdown, tables_of, unbroken, written

DOCS = pathlib.Path(__file__).parent
RESULTS = DOCS / "results"

_CAPTIONS: dict[str, str] = json.loads((DOCS / "captions.json").read_text())


def toy_table() -> str:
    """The toy problem's table and where it comes from."""
    record = _read("toy/toy_cpu.json")
    table = _example("toy")
    if record is None or table is None:
        return _not_run("python examples/paper/toy/main.py")
    return f"{unbroken(table.markdown_table(record['rows']))}\n\n{_training_time(record)}{_source(record)}"


def toy_figures() -> str:
    """Every figure of the toy problem that a run wrote, with its caption."""
    names = sorted(
        path.stem for path in (RESULTS / "toy").glob("*.png") if path.stem not in ("ou",) and "ou_" not in path.stem
    )
    names.sort(key=lambda name: list(_CAPTIONS).index(name) if name in _CAPTIONS else len(_CAPTIONS))
    return "\n\n".join(_figure(f"results/toy/{name}.png", name) for name in names) or _not_run(
        "python examples/paper/toy/main.py"
    )


def ou_table() -> str:
    """Learned against exact scores of the Ornstein-Uhlenbeck mixture."""
    record = _read("toy/ou_cpu.json")
    text = (
        _not_run("python examples/paper/toy/main.py")
        if record is None
        else f"{tables_of(record['rows'])}\n\n{_source(record)}"
    )
    figures = sorted(path.name for path in (RESULTS / "toy").glob("ou*.png"))
    return "\n\n".join([text, *(_figure(f"results/toy/{name}", pathlib.Path(name).stem) for name in figures)])


def heat_table() -> str:
    """The heat problem: exact limits, the three inferences, every baseline."""
    return _heat("markdown_table", "inferences", "baselines")


def heat_posterior() -> str:
    """The learned posterior of the heat problem against the exact one."""
    return _heat("posterior_table", "inferences")


def heat_windows() -> str:
    """The heat problem's errors against the size of the windows."""
    return _heat("windows_table", "windows")


def heat_shifts() -> str:
    """The heat problem with another conductivity and another noise than in training."""
    return _heat("shifts_table", "shifts")


def heat_conditions() -> str:
    """One score of the heat problem for all conductivities and noises."""
    return _heat("conditions_table", "conditions")


def heat_moments() -> str:
    """A convolutional network between the heat problem's Fourier moments."""
    return _heat("moments_table", "moments")


def heat_solvers() -> str:
    """The heat problem's scores with other solvers and steps."""
    return _heat("solvers_table", "solvers")


def heat_figures() -> str:
    """The heat problem's figures that need no table."""
    return "\n\n".join(_figure(f"results/heat/{name}.png", name) for name in ("gallery", "posterior_fields"))


def benchmark_heat() -> str:
    """The heat problem with the paper's network against hand-written scans."""
    parts = ("window", "sampling", "tiling", "speed")
    return "\n\n".join(_simple(f"benchmark_heat_{part}.json", f"python benchmarks/heat.py {part}") for part in parts)


def _heat(table: str, *parts: str) -> str:
    """A table of the heat problem, its sources, and the figure of its first part."""
    records = [_read(f"heat/{part}_cpu.json") for part in parts]
    module = _example("heat")
    if records[0] is None or module is None:
        return _not_run("python examples/paper/heat/main.py")
    rows = unbroken(getattr(module, table)(RESULTS / "heat", "cpu"))
    figure = RESULTS / "heat" / f"{parts[0]}.png"
    shown = [_figure(f"results/heat/{figure.name}", parts[0])] if figure.exists() and table != "markdown_table" else []
    sources = " ".join(_source(record) for record in records if record is not None)
    return "\n\n".join([rows, _training_time(records[0]) + sources, *shown])


def factor_two() -> str:
    """What multiplying the exact score does."""
    return _simple("factor_two.json", "python docs/figures/factor_two.py")


def benchmark_window() -> str:
    """The window loss against a hand-written scan."""
    return _simple("benchmark_window.json", "python benchmarks/window.py")


def benchmark_fit() -> str:
    """The training loop against a hand-written one."""
    return _simple("benchmark_fit.json", "python benchmarks/fit.py")


def benchmark_burgers() -> str:
    """Stochastic Burgers: calibration, and other tools beside it."""
    return _simple("benchmark_burgers.json", "python benchmarks/burgers.py")


def benchmark_deterministic() -> str:
    """What the samplers of systems without noise sample, where it is known."""
    return _simple("benchmark_deterministic.json", "python benchmarks/deterministic.py")


def benchmark_turbulence() -> str:
    """The generator of turbulence: how accurate, and how fast."""
    return _simple("benchmark_turbulence.json", "python benchmarks/turbulence.py")


def benchmark_buoyancy() -> str:
    """What steps of the buoyancy-driven flow, their gradients and the pressure's iterations cost."""
    return _simple("benchmark_buoyancy.json", "taskset -c 0 python benchmarks/buoyancy.py")


def benchmark_surrogate() -> str:
    """Windows of a surrogate, and of a score beside it, against hand-written scans."""
    return _simple("benchmark_surrogate.json", "python benchmarks/surrogate.py")


def turbulence_table() -> str:
    """Learned and known physics, with and without a score, mean ± standard deviation over seeds."""
    return _inferences("turbulence")


def turbulence_calibration() -> str:
    """What `calibrate` says of the SDE's samples."""
    record = _read("turbulence/inferences_cpu.json")
    return "" if record is None else f"```text\n{record['calibration']}\n```"


def turbulence_figures() -> str:
    """One case back in time, spectra, errors along the way."""
    captions = {
        "backwards.gif": "turbulence_animation",
        "backwards.png": "turbulence_backwards",
        "spectra.png": "turbulence_spectra",
        "errors.png": "turbulence_errors",
    }
    return _figures("turbulence", captions)


def buoyancy_table() -> str:
    """Flow around obstacles, backwards: with and without score and physics, mean ± standard deviation over seeds."""
    return _inferences("buoyancy")


def buoyancy_less_noise() -> str:
    """The same with a tenth of the noise, σ = .01."""
    return _inferences("buoyancy", "_0.01", "--sigma .01 --out runs/paper/buoyancy_0.01")


def buoyancy_figures() -> str:
    """One case back in time, every answer at t = .35, samples, and ranks of the truth among them."""
    captions = {
        "backwards.gif": "buoyancy_animation",
        "backwards.png": "buoyancy_backwards",
        "middle.png": "buoyancy_middle",
        "posterior.png": "buoyancy_posterior",
        "ranks.png": "buoyancy_ranks",
    }
    return _figures("buoyancy", captions)


def gallery() -> str:
    """One figure of each problem."""
    shown = {
        "buoyancy": {"backwards.gif": "buoyancy_animation"},
        "turbulence": {"backwards.gif": "turbulence_animation"},
        "heat": {"gallery.png": "gallery"},
        "toy": {"paths.png": "paths"},
    }
    return "\n\n".join(_figures(folder, captions) for folder, captions in shown.items())


def benchmark_store() -> str:
    """Reading a store, and training on it beside memory."""
    return _simple("benchmark_store.json", "python benchmarks/store.py")


def benchmark_losses() -> str:
    """Window and transition losses, a table for each problem."""
    record = _read("benchmark_losses.json")
    if record is None:
        return _not_run("python benchmarks/losses.py")
    titles = {
        "lorenz": "Lorenz-63, energy distance to brute force at four ends",
        "toy": "The toy problem, largest error of P(+1)",
    }
    tables = []
    for name, title in titles.items():
        rows = [row for row in record["rows"] if row["problem"] == name]
        if not rows:
            continue
        heads = ("trajectories", "steps", "loss", "error", "training, CPU s", "gradient noise")
        cells = []
        for row in rows:
            apart = " / ".join(f"{error:.3f}" for error in row.get("energy distance", [row.get("P(+1) off")]))
            what = [f"{row['trajectories']:,}", str(row["steps"]), row["loss"], apart]
            cells.append([*what, f"{row['training CPU s']:.0f}", f"{row['gradient noise']:.3g}"])
        tables.append(f"**{title}**\n\n" + markdown(heads, cells))
    own = " / ".join(f"{error:.3f}" for error in record["rows"][0]["own error"])
    return unbroken("\n\n".join(tables)) + f"\n\nThe brute force's own error: {own}. {_source(record)}"


def benchmark_losses_heat() -> str:
    """The same by a thin convolutional network of fields that conduct heat."""
    return _losses_of_fields("heat")


def benchmark_losses_paper() -> str:
    """The same by the paper's network."""
    return _losses_of_fields("paper", "paper few")


def _losses_of_fields(*runs: str) -> str:
    found: list[dict[str, Any]] = []
    for run in runs:
        record = _read(f"benchmark_losses_{run.replace(' ', '_')}.json")
        if record is None:
            return _not_run(f"python benchmarks/losses.py {run}")
        found.append(record)
    heads = ("trajectories", "steps", "loss", "mean off, sd", "variance ratio", "training, CPU s", "gradient noise")
    cells = []
    for row in (row for record in found for row in record["rows"]):
        least, most = row["variance"]
        what = [f"{row['trajectories']:,}", str(row["steps"]), row["loss"], f"{row['mean off']:.2f}"]
        cells.append(
            [*what, f"{least:.2f} to {most:.2f}", f"{row['training CPU s']:.0f}", f"{row['gradient noise']:.3g}"]
        )
    return "\n\n".join([unbroken(markdown(heads, cells)), " ".join(map(_source, found))])


def benchmark_kuramoto_sivashinsky() -> str:
    """Kuramoto-Sivashinsky backwards, a column for each time."""
    record = _read("benchmark_kuramoto_sivashinsky.json")
    if record is None:
        return _not_run("python benchmarks/kuramoto_sivashinsky.py")
    rows = record["rows"]
    heads = ["", *(f"T = {row['T']:g}" for row in rows)]
    cells = [[name, *(written(row[name]) for row in rows)] for name in rows[0] if name != "T"]
    return markdown(heads, cells) + f"\n\n{_source(record)}"


def benchmark_lorenz63() -> str:
    """Three trainings of a score by four solvers, with two numbers of steps."""
    record = _read("benchmark_lorenz63.json")
    if record is None:
        return _not_run("python benchmarks/lorenz63.py")
    heads = ("learned through; solved by", "energy distance, ends 1 to 4", "of the farthest seed", "training, CPU s")
    rows = []
    for row in record["rows"]:
        apart = (" / ".join(f"{d:.4f}" for d in row.get(which, [])) for which in ("energy distance", "farthest seed"))
        rows.append([row["method"], *apart, written(row.get("training CPU s", ""))])
    return f"{unbroken(markdown(heads, rows))}\n\n{_source(record)}"


def benchmark_lorenz96() -> str:
    """Forty variables backwards, beside the usual tools."""
    return _simple("benchmark_lorenz96.json", "python benchmarks/lorenz96.py")


def benchmark_problems() -> str:
    """Problems of other scales, kinds and clocks by the library's defaults."""
    return _simple("benchmark_problems.json", "python benchmarks/problems.py")


def benchmark_particles() -> str:
    """What a particle smoother makes of vectors."""
    return _simple("benchmark_particles.json", "python benchmarks/particles.py")


def benchmark_peers() -> str:
    """Beside simulation-based inference and the ensemble Kalman smoother: a table for each problem."""
    record = _read("benchmark_peers.json")
    if record is None:
        return _not_run("python benchmarks/peers.py score")
    titles = {"lorenz": "Lorenz-63", "ou": "Ten components of scales 10⁻² to 10²", "heat": "Heat, 16 × 16 pixels"}
    kinds = {title: [row for row in record["rows"] if row["problem"] == name] for name, title in titles.items()}
    tables = [f"**{title}**\n\n{_peers(rows)}" for title, rows in kinds.items() if rows]
    theirs = next((row["versions"] for row in record["rows"] if "versions" in row), {})
    listed = ", ".join(f"{name} {version}" for name, version in theirs.items())
    return unbroken("\n\n".join(tables)) + f"\n\n{_source(record)} Beside them: {listed}."


def _peers(rows: list[dict[str, Any]]) -> str:
    gaussian = "variance" in rows[0]
    distance = "mean energy distance" if gaussian else "energy distance to brute force at four ends"
    heads = ["trajectories", "method", distance, *(["error of the mean, sd", "variance"] if gaussian else [])]
    heads += ["training, CPU s", "1,000 draws, CPU s", "lines"]
    table = []
    for row in rows:
        cells = [f"{row['trajectories']:,}", row["method"], " / ".join(f"{d:.3f}" for d in row["energy distance"])]
        if gaussian:
            cells += [f"{row['mean error']:.2f}", " to ".join(map(written, row["variance"]))]
        cells += [f"{row['training CPU s']:.0f}", f"{row['CPU s per 1,000 draws']:.2g}", str(row["lines"])]
        table.append(cells)
    own = " / ".join(f"{error:.3f}" for error in rows[0]["own error"])
    of = "Two sets of exact draws are" if gaussian else "The brute force's own error:"
    return markdown(heads, table) + f"\n\n{of} {own}{' apart' if gaussian else ''}."


def benchmark_sample() -> str:
    """Sampling against a hand-written scan."""
    return _simple("benchmark_sample.json", "python benchmarks/sample.py")


def _simple(name: str, command: str) -> str:
    record = _read(name)
    return _not_run(command) if record is None else f"{tables_of(record['rows'])}\n\n{_source(record)}"


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None


def _not_run(command: str) -> str:
    return f"Not run yet: `{command}` writes this."


def _source(record: dict[str, Any]) -> str:
    """Command, versions, machine and date of a run."""
    versions = dict(record.get("versions", {}))
    date = record.get("date", versions.pop("date", None))
    device, cores = versions.pop("device", None), versions.pop("cores", None)
    versions.pop("date", None)
    machine = f" on {device}, {cores} core{'s' * (str(cores) != '1')}" if device else ""
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Made by `{record['command']}`{machine}{f', {date}' if date else ''}: {listed}."


def _training_time(record: dict[str, Any]) -> str:
    seconds = [row["training s per seed"] for row in record["rows"] if "training s per seed" in row]
    if not seconds:
        return ""
    least_and_most = dict.fromkeys(f"{s:.0f}" for s in (min(seconds), max(seconds)))  # once where they are alike
    return f"Training took {' to '.join(least_and_most)} s a seed. "


def _inferences(name: str, suffix: str = "", how: str = "") -> str:
    """The table of an example's inferences, by its own `table`, and where it comes from."""
    record, module = _read(f"{name}/inferences_cpu{suffix}.json"), _example(name)
    if record is None or module is None:
        return _not_run(f"python examples/paper/{name}/main.py {how}".rstrip())
    return "\n\n".join([unbroken(module.table(record["rows"])), _source(record)])


def _figures(folder: str, captions: dict[str, str]) -> str:
    """Those figures of a run that there are, each by the name of its caption."""
    return "\n\n".join(
        _figure(f"results/{folder}/{file}", caption)
        for file, caption in captions.items()
        if (RESULTS / folder / file).exists()
    )


def _figure(path: str, name: str) -> str:
    title = name.replace("_", " ")
    caption = f"<figcaption>{_CAPTIONS.get(name, title)}</figcaption>"
    return f'<figure markdown="span">\n  ![{title}]({path})\n  {caption}\n</figure>'


def _example(name: str) -> Any:
    """The module of `examples/paper/` that makes a problem's tables from its records."""
    path = DOCS.parent / "examples" / "paper" / name / "table.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
