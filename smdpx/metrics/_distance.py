"""Distances between two sets of samples, for samples against samples of an exact posterior.

    W₁ = ∫ |F_a - F_b| dx                            (one dimension; else a mean over directions)
    D² = 2 E|X - Y| - E|X - X'| - E|Y - Y'|          (energy distance, any dimension)
    c2st = accuracy of a classifier that is to tell the two sets apart

W₁ has the units of the state, the energy distance too, c2st none.
"""

import math
import warnings

import jax.random as jr
import numpy as np

from .._types import Key
from ._common import Samples, as_pair, distance_sums, require, unit


def wasserstein1(a: Samples, b: Samples, *, key: Key | None = None, directions: int = 128) -> float:
    """Wasserstein-1 distance of two sets of samples, sliced for states of several components.

    For scalar states W₁(a, b) = ∫ |F_a(x) - F_b(x)| dx, exactly for the samples. Else
    SW₁(a, b) = E_θ W₁(θ·a, θ·b) over random unit vectors θ (Bonneel et al. 2015), which is zero
    only for equal distributions, unlike a mean over components. Slicing shrinks distances: a shift
    by c in d dimensions gives |c| Γ(d/2) / (√π Γ((d+1)/2)), about |c| √(2 / (π d)).

    Args:
        a: samples, shape (n, ...). Leaves of a tree are put side by side, so they need one unit.
        b: samples, shape (m, ...), states shaped as in ``a``.
        key: draws the directions; needed for states of several components only.
        directions: number of random directions, > 0.

    Returns:
        The distance, ≥ 0, in units of the state. Finite samples of one distribution don't give
        zero: two sets of n standard normals give about 1.9 / √n.

    Raises:
        ValueError: no samples, non-finite ones, states of different shapes, no directions, or
            states of several components without a ``key``.
        ImportError: SciPy is not installed.

    >>> import jax.numpy as jnp
    >>> wasserstein1(jnp.array([0.0, 1.0]), jnp.array([3.0, 2.0]))
    2.0
    """
    x, y = as_pair(a, b, least=1)
    if directions < 1:
        raise ValueError(f"`directions` must be positive, got {directions}")
    distance = require("scipy.stats").wasserstein_distance
    if x.shape[1] == 1:
        return float(distance(x[:, 0], y[:, 0]))
    if key is None:
        raise ValueError(
            f"`key` is needed for states of several components, here {x.shape[1]}: their distance "
            "is a mean over random directions. Write `wasserstein1(a, b, key=jax.random.key(0))`"
        )
    theta = np.asarray(jr.normal(key, (x.shape[1], directions)))
    theta = theta / np.linalg.norm(theta, axis=0)
    pairs = zip((x @ theta).T, (y @ theta).T, strict=True)
    return math.fsum(distance(u, v) for u, v in pairs) / directions


def energy_distance(a: Samples, b: Samples) -> float:
    """Energy distance of two sets of samples, in any dimension, without bias.

    D²(a, b) = 2 E|X - Y| - E|X - X'| - E|Y - Y'| with Euclidean norms (Székely and Rizzo 2013),
    which is zero only for equal distributions. The means over X, X' leave out equal indices, so
    that the expected value for samples of one distribution is zero. ``scipy.stats.energy_distance``
    is √D² with equal indices left in, in one dimension.

    Args:
        a: samples, shape (n, ...), n ≥ 2. Leaves of a tree are put side by side, so they need one unit.
        b: samples, shape (m, ...), m ≥ 2, states shaped as in ``a``.

    Returns:
        D², in units of the state; slightly negative values are noise about zero. Time goes with
        (n + m)², memory does not.

    Raises:
        ValueError: fewer than two samples, non-finite ones, or states of different shapes.

    >>> import jax.numpy as jnp
    >>> energy_distance(jnp.array([0.0, 1.0]), jnp.array([10.0, 11.0]))
    18.0
    """
    x, y = as_pair(a, b, least=2)
    n, m = len(x), len(y)
    cross, within_x, within_y = (float(distance_sums(u, v).sum()) for u, v in ((x, y), (x, x), (y, y)))
    return 2 * cross / (n * m) - within_x / (n * (n - 1)) - within_y / (m * (m - 1))


def energy_distance_of_parts(x: np.ndarray, side: np.ndarray) -> float:
    """`energy_distance` of the states on one side and on the other, in a program that serves any such division."""
    near, far = distance_sums(x, x, side), distance_sums(x, x, ~side)
    n, m = int(side.sum()), int((~side).sum())
    cross, within, without = (float(sums.sum()) for sums in (far[side], near[side], far[~side]))
    return 2 * cross / (n * m) - within / (n * (n - 1)) - without / (m * (m - 1))


def c2st(a: Samples, b: Samples, *, key: Key, folds: int = 5) -> float:
    """Classifier two-sample test: can a small network tell the two sets of samples apart?

    Cross-validated accuracy (Lopez-Paz and Oquab 2017) of two hidden layers of 10 units a
    component, at least 32 and at most 128, on standardised features; the best possible value is
    ½ + ½ TV(p_a, p_b), with TV the total variation distance. Equal states are always in one fold: a
    copy that is left in training with the other label teaches the wrong answer.

    Args:
        a: samples, shape (n, ...), n ≥ 2 ``folds``; some hundreds for a useful answer. Leaves of a tree are put side
            by side.
        b: samples, shape (n, ...): as many, of states shaped as in ``a``.
        key: draws the folds and the classifier's weights.
        folds: number of cross-validation folds, ≥ 2.

    Returns:
        The accuracy: about .5 ± .35/√n for samples of one distribution, 1 for disjoint ones, .5 for a
        set and itself. A value below .5 is noise.

    Raises:
        ValueError: too few samples, non-finite ones, sets of different sizes, states of different
            shapes, fewer than two folds, or fewer different states than folds.
        ImportError: scikit-learn is not installed.

    >>> import jax.numpy as jnp, jax.random as jr
    >>> a = jr.normal(jr.key(0), (50, 2))
    >>> c2st(a, a + 100, key=jr.key(1))
    1.0
    """
    if folds < 2:
        raise ValueError(f"`folds` must be at least 2, got {folds}")
    x, y = as_pair(a, b, least=2 * folds)
    if len(x) != len(y):
        raise ValueError(
            "`a` and `b` must hold equally many samples, or .5 is no longer the accuracy of "
            f"guessing; got {len(x)} and {len(y)}. Write `n = min(len(a), len(b))` and pass "
            "`a[:n], b[:n]`"
        )
    seed = int(jr.randint(key, (), 0, 2**31 - 1))
    select, network = require("sklearn.model_selection"), require("sklearn.neural_network")
    states = np.concatenate([x, y])
    distinct, groups = np.unique(states, axis=0, return_inverse=True)
    if len(distinct) < folds:
        raise ValueError(
            f"`a` and `b` must hold at least `folds` = {folds} different states, got {len(distinct)}. For states of "
            "few values, compare their frequencies"
        )
    unique = len(distinct) == len(states)
    splitter = select.StratifiedKFold if unique else select.StratifiedGroupKFold
    width = min(128, max(32, 10 * x.shape[1]))
    classifier = require("sklearn.pipeline").make_pipeline(
        require("sklearn.preprocessing").StandardScaler(),
        # Weight decay, not early stopping, which held-out data costs: of 300 + 300 samples with a
        # best accuracy of .693, they find .680 and .580.
        network.MLPClassifier((width, width), alpha=1.0, max_iter=100, random_state=seed),
    )
    with warnings.catch_warnings():
        # A classifier that is still improving a little is good enough.
        warnings.simplefilter("ignore", require("sklearn.exceptions").ConvergenceWarning)
        scores = select.cross_val_score(
            classifier,
            states / unit(states, axis=0),
            np.repeat([0, 1], len(x)),
            groups=None if unique else groups.ravel(),
            cv=splitter(folds, shuffle=True, random_state=seed),
            scoring="accuracy",
        )
    return float(scores.mean())
