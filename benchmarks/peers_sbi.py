"""sbi's side of `peers.py`: NPE or FMPE by their defaults, on its pairs (x₀, x_T), in an environment of its own.

python benchmarks/peers_sbi.py npe lorenz 5000
"""

import importlib.metadata
import inspect
import json
import os
import pathlib
import sys
import time

import numpy as np
import torch
from sbi.inference import FMPE, NPE
from torch.distributions import Independent, Normal

RUNS = pathlib.Path(__file__).parent.parent / "runs" / "peers"


# What a user writes, from pairs to draws; of the prior only the support is used, which is everywhere.
def learn(method, x0, xT, epochs):
    prior = Independent(Normal(x0.mean(0), x0.std(0)), 1)
    inference = method(prior).append_simulations(x0, xT)
    inference.train(max_num_epochs=epochs)
    return inference


def draw(inference, ends, n):
    posterior = inference.build_posterior()
    return torch.stack([posterior.sample((n,), x=x, show_progress_bars=False) for x in ends], dim=1)


METHODS = {
    "npe": ("sbi NPE", NPE, 25),
    "nsf": ("sbi NPE, spline flow", lambda prior: NPE(prior, density_estimator="nsf"), 25),
    "fmpe": ("sbi FMPE", FMPE, 75),
}


def main(name, problem, count):
    os.chdir(RUNS)  # where sbi leaves its logs
    torch.manual_seed(0)
    torch.set_num_threads(1)  # small networks gain nothing by more, and spend CPU seconds on waiting
    stored = np.load(RUNS / f"{problem}.npz")
    pairs = torch.as_tensor(stored["x"][:count, [0, -1]]).flatten(2)
    ends, n = torch.as_tensor(stored["ends"]).flatten(1), int(stored["draws"])
    title, method, capped = METHODS[name]
    # Early stopping decides, but for 50,000 pairs: there each training has about five minutes.
    epochs = capped if count > 5000 else 2**31 - 1
    start = time.process_time()
    inference = learn(method, pairs[:, 0], pairs[:, 1], epochs)
    trained = time.process_time()
    samples = draw(inference, ends, n).numpy()
    sampling = time.process_time() - trained
    row = {"problem": problem, "trajectories": count, "method": title, "training CPU s": trained - start}
    written = sum(len(inspect.getsource(f).strip().splitlines()) - 1 for f in (learn, draw))
    row |= {"CPU s per 1,000 draws": sampling / (n * len(ends) / 1000), "lines": written}
    trained = int(inference.summary["epochs_trained"][-1])
    row |= {"epochs": trained, "stopped by": "the cap on epochs" if trained >= epochs else "early stopping"}
    row |= {"versions": {package: importlib.metadata.version(package) for package in ("sbi", "torch")}}
    print(row)
    file = RUNS / f"{problem}-{count}-sbi-{name}"
    file.with_suffix(".json").write_text(json.dumps(row))
    np.save(file.with_suffix(".npy"), samples)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
