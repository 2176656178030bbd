"""Timing of two programs against each other in one process, and the record of the run."""

import datetime
import json
import pathlib
import platform
import statistics
import time
from typing import Any

import jax


def paired(ours, theirs, *, rounds: int = 15, least: float = 0.15):
    """Times of two no-argument functions, run in turn; the median of the pairs' ratios and both medians.

    Machines drift: only the ratio within a round compares like with like.
    """
    jax.block_until_ready(ours()), jax.block_until_ready(theirs())
    once = _time(ours, 1)
    repeats = max(1, round(least / max(once, 1e-7)))
    pairs = [(_time(ours, repeats), _time(theirs, repeats)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "ours_s": statistics.median(a for a, _ in pairs),
        "theirs_s": statistics.median(b for _, b in pairs),
        "rounds": rounds,
        "repeats": repeats,
    }


def _time(f, repeats: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready([f() for _ in range(repeats)][-1])
    return (time.perf_counter() - start) / repeats


def best(f, *arguments, times: int = 5) -> float:
    """The shortest time of a few runs, in seconds."""
    jax.block_until_ready(f(*arguments))
    return min(_time(lambda: f(*arguments), 1) for _ in range(times))


def compile_seconds(f, *args) -> tuple[float, Any]:
    """Seconds to trace and compile f for these arguments, and the compiled program."""
    start = time.perf_counter()
    compiled = jax.jit(f).lower(*args).compile()
    return time.perf_counter() - start, compiled


def versions() -> dict[str, str]:
    """What ran."""
    from importlib.metadata import version

    names = ["smdpx", "jax", "jaxlib", "diffrax", "equinox", "optax"]
    device = jax.devices()[0]
    return {
        **{name: version(name) for name in names},
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "cores": str(len(__import__("os").sched_getaffinity(0))),
    }


def record(name: str, command: str, rows) -> None:
    """Print the run's rows as they come, and write them under docs/results."""
    done = []
    for row in rows:
        print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
        done.append(row)
    path = pathlib.Path(__file__).parent.parent / "docs" / "results" / f"benchmark_{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    content = {"command": command, "date": date, "versions": versions(), "rows": done}
    path.write_text(json.dumps(content, indent=1) + "\n")
