"""Trajectory stores: how fast they are read, and training on windows from the disk against the same data in memory.

python benchmarks/store.py

Two problems: a small convolutional network on fields of 64², and a small perceptron on scalars, whose updates are so
short that asking the host for windows takes longer than they do. Each trains in memory, from the page cache, and from
the disk. A store larger than memory is simulated by dropping the store's pages, twice a second, from the page cache
(`posix_fadvise(POSIX_FADV_DONTNEED)`, after the maps are closed): so nearly all that is drawn comes from the disk, as
of a store many times as large as memory. How much that is, the kernel counts (`/proc/self/io`).
"""

import argparse
import gc
import os
import tempfile
import threading
import time
from contextlib import contextmanager

import jax
import jax.random as jr
import numpy as np
from _measure import record

import smdpx as sx

G = 0.5
P, g = sx.Drift(lambda t, x, args: -x), sx.Diffusion(G)


def fields(side, times):
    """A generator of noise with the shape of a process: what is measured does not depend on the numbers."""

    def generate(key, count):
        random = np.random.default_rng(np.asarray(jr.key_data(key)))
        x = random.standard_normal((count, times, *side), np.float32)
        return sx.Trajectories(x, np.linspace(0, 1, times))

    return generate


def files_of(path):
    return [file for file in (path / "x" / "c").rglob("*") if file.is_file()]


def drop(paths):
    """The store's pages out of the page cache."""
    paths.files.mapped.cache_clear()
    for file in files_of(paths.path):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def dropping(paths):
    """The page cache without the store, all the time."""
    over = threading.Event()

    def run():
        while not over.wait(0.5):
            drop(paths)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()


def from_disk():
    """Bytes that this process has caused to be read from a disk."""
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith("read_bytes")).split()[1])


def reading(path):
    """Megabytes a second into device arrays, from the page cache: with checksums, and again without."""
    for file in files_of(path):
        file.read_bytes()
    rates = {"first, with checksums": [], "again": []}
    for _ in range(3):
        opened = sx.StoredPaths(path)
        for name in rates:
            start = time.perf_counter()
            x = jax.block_until_ready(opened.load().x)
            rates[name].append(x.nbytes / 1e6 / (time.perf_counter() - start))
            size = x.nbytes
            del x
    del opened
    gc.collect()
    return {"what": "load", "MB": size / 1e6, **{f"MB/s {name}": float(np.median(r)) for name, r in rates.items()}}


def speed(paths, s, stage):
    """Updates a second between reports; CPU seconds, and megabytes from the disk, an update."""
    reports, spent = [], []

    def report(progress):
        reports.append(progress)
        spent.append((time.process_time(), from_disk() / 1e6))

    sx.fit(-P + 2 * s, paths, key=jr.key(2), curriculum=[stage], callback=report)
    seconds = sum((b.update - a.update) / b.updates_per_second for a, b in zip(reports, reports[1:], strict=False))
    done = reports[-1].update - reports[0].update
    return done / seconds, *((np.array(spent[-1]) - np.array(spent[0])) / done)


def training(name, path, net, stage, rounds):
    s = sx.Score(net, g)
    # One view alone: pages that another has mapped would stay where they are.
    stored = sx.StoredPaths(path, memory=0)
    memory = stored.load()  # compares the checksums
    runs = {"memory": [], "page cache": [], "disk": []}
    for _ in range(rounds):
        runs["memory"].append(speed(memory, s, stage))
        runs["page cache"].append(speed(stored, s, stage))
        with dropping(stored):
            runs["disk"].append(speed(stored, s, stage))
    rate, cpu, read = ({kind: np.array(run)[:, i] for kind, run in runs.items()} for i in range(3))
    away = ("page cache", "disk")
    # Other programs' share of the machine changes from run to run: the median of the rounds' ratios.
    return {
        "what": name,
        "batch": stage.batch,
        "store MB": memory.x.nbytes / 1e6,
        **{f"{kind} / memory": float(np.median(rate[kind] / rate["memory"])) for kind in away},
        **{f"updates/s, {kind}": float(np.median(each)) for kind, each in rate.items()},
        **{f"CPU ms an update, {kind}": 1e3 * float(np.median(each)) for kind, each in cpu.items()},
        "MB drawn an update": stage.batch * stage.window * int(np.prod(memory.x.shape[2:])) * 4 / 1e6,
        "MB from disk an update": float(np.median(read["disk"])),
    }


def rows(count, rounds):
    with tempfile.TemporaryDirectory() as folder:
        large = sx.stored(fields((64, 64), 17), count, key=jr.key(0), at=folder).path
        os.sync()
        yield reading(large)
        net = sx.nn.ResNet(shape=(64, 64), width=8, blocks=2, key=jr.key(1))
        yield training("convolutions, 64²", large, net, sx.Stage(2, 20, batch=16), rounds)
        small = sx.stored(fields((), 501), 2500, key=jr.key(0), at=folder).path
        os.sync()
        net = sx.nn.MLP(key=jr.key(1))
        yield training("perceptron, scalars", small, net, sx.Stage(2, 3000, batch=256), rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=3600, help="fields; 3,600 are a gigabyte")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    flags = "".join(f" --{name} {value}" for name, value in vars(options).items() if value != parser.get_default(name))
    record("store", "python benchmarks/store.py" + flags, rows(options.count, options.rounds))


if __name__ == "__main__":
    main()
