"""The record of a run: what ran, on what, and its numbers, as JSON."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax


def versions() -> dict[str, str]:
    """The versions and the machine of this run."""
    names = ("smdpx", "jax", "diffrax", "equinox", "optax", "numpy")
    device = jax.devices()[0]
    return {
        **{name: importlib.metadata.version(name) for name in names},
        "python": platform.python_version(),
        "device": f"{device.platform} ({device.device_kind})",
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "date": datetime.date.today().isoformat(),
    }


def write(out: pathlib.Path, name: str, record: dict[str, Any]) -> None:
    """Write a record into a folder, which is made."""
    out.mkdir(parents=True, exist_ok=True)
    (out / name).write_text(json.dumps(record, indent=1) + "\n")
