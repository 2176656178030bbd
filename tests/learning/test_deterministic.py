"""Deterministic systems (arXiv:2301.10250, appendix A.3): a linear contraction, where all is known in closed form.

x(t) = e^{-t} x(0),    x(0) ~ N(0, 1),    v(t) = e^{-2t},    σ² = g²Δt
"""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smdpx as sx
from smdpx.learning._perturbed import blurred
from tests._problems import as_users_run  # noqa: F401

KEY = jax.random.split(jax.random.key(0), 4)
STEPS, H = 10, 0.1
TS = np.linspace(0.0, 1.0, STEPS + 1)
BLUR = 0.3**2 * H
g = sx.Diffusion(0.3)
P = sx.Drift(lambda t, x, args: -x)
# Quantiles of N(0, 1): the data have its variance, to three digits.
X0 = jax.scipy.stats.norm.ppf((jnp.arange(4000.0) + 0.5) / 4000)
PATHS = sx.Trajectories(jnp.outer(X0, jnp.exp(-jnp.asarray(TS, jnp.float32))), TS)
X_T = jnp.array([-0.4, 0.0, 0.3])


def variance(t):
    return np.exp(-2 * t)


class Slopes(eqx.Module):
    """A score -w(t) x, with a number for each time of the grid."""

    w: jax.Array

    def __call__(self, t, x, args):
        return -self.w[jnp.rint(t / H).astype(int)] * x


def learned(paths, solver):
    s = sx.Score(Slopes(jnp.ones(STEPS + 1)), g)
    stages = [sx.Stage(updates=1500, learning_rate=0.2, batch=4096)]
    return sx.fit(-P + 2 * s + g if isinstance(solver, sx.SplitEuler) else -P + 2 * s, paths, key=KEY[0],
                  loss=sx.WindowLoss(solver=solver), curriculum=stages)  # fmt: skip


def drawn(s, noise=g, C=2):
    draws = np.asarray(sx.posterior(-P + C * s + noise, X_T, TS[::-1], 40_000, key=KEY[1]))
    return draws.mean(axis=0), draws.var(axis=0)


def agree(found, mean, var):
    exact = mean * np.asarray(X_T)
    # By chance the mean of 40,000 draws is off by .002, and that of x_T = 0 has no size of its own.
    assert (np.abs(found[0] - exact) <= np.where(exact == 0, 0.01, 0.05 * np.abs(exact))).all()
    np.testing.assert_allclose(found[1], var, rtol=0.1)


@pytest.fixture(scope="module")
def joint():
    return learned(sx.Perturbed(PATHS, g), dfx.Euler())


@pytest.fixture(scope="module")
def split():
    return learned(PATHS, sx.SplitEuler())


def test_the_joint_update_learns_the_score_of_blurred_states(joint):
    # E[x_m | x̃_{m+1}] = e^h v/(v + σ²) x̃, of which Euler's step is 1 + h - g²h w.
    v = variance(TS[1:])
    exact = (1 + H - np.exp(H) * v / (v + BLUR)) / BLUR
    np.testing.assert_allclose(1 - BLUR * joint.net.w[1:], 1 - BLUR * exact, rtol=0.002)


def test_the_split_update_learns_it_too(split):
    # Denoising takes (1 + h) x_{m+1} + σz to E[x_m | .], and Euler's physics is short of x_m by h²/2.
    moved = (1 + H) * np.exp(-H)
    v = variance(TS[:-1])
    exact = (1 - moved * v / (moved**2 * v + BLUR)) / BLUR
    np.testing.assert_allclose(1 - BLUR * split.net.w[:-1], 1 - BLUR * exact, rtol=0.002)


def test_draws_of_the_joint_update_have_the_law_in_closed_form(joint):
    mean, var = 1.0, 0.0
    for t in TS[:0:-1]:
        shrink = np.exp(H) * variance(t) / (variance(t) + BLUR)
        mean, var = shrink * mean, shrink**2 * var + BLUR
    agree(drawn(joint), mean, var)


def test_draws_of_the_split_update_have_the_law_in_closed_form(split):
    mean, var, moved = 1.0, 0.0, (1 + H) * np.exp(-H)
    for t in TS[-2::-1]:
        shrink = moved * variance(t) / (moved**2 * variance(t) + BLUR)
        mean, var = (1 + H) * shrink * mean, shrink**2 * ((1 + H) ** 2 * var + BLUR)
    agree(drawn(split), mean, var)


def test_blurred_states_have_the_noise_of_one_step():
    uneven = sx.Trajectories(jnp.zeros((20_000, 3)), [0.0, 0.1, 0.5])
    noise = sx.Diffusion(lambda t: 1 + t)
    windows, _ = sx.Perturbed(uneven, noise).source([1]).draw(size=3, stride=1, batch=20_000, key=KEY[2])
    np.testing.assert_allclose(windows.x.var(axis=0), [0.1, 1.1**2 * 0.1, 1.5**2 * 0.4], rtol=0.05)


def test_the_noise_of_a_step_does_not_depend_on_the_clocks_origin():
    here, far = (sx.Trajectories(jnp.zeros((4, 3)), origin + np.array([0.0, 1e-3, 5e-3])) for origin in (0.0, 1e4))
    x, y = (blurred(paths, sx.Diffusion(1.0), KEY[0]).x for paths in (here, far))
    np.testing.assert_allclose(x, y, rtol=1e-5)


def test_the_noise_is_another_in_each_update_and_the_windows_are_the_same():
    paths = sx.Perturbed(PATHS, sx.Diffusion(1e-3))
    draw = lambda source, key: source.source([1]).draw(size=2, stride=1, batch=5, key=key)[0]  # noqa: E731
    first, second = draw(paths, KEY[0]), draw(paths, KEY[1])
    assert not np.array_equal(first.x, second.x)
    clean = PATHS.source([1]).draw(size=2, stride=1, batch=5, key=jax.random.split(KEY[0])[0])[0]
    np.testing.assert_allclose(first.x, clean.x, atol=0.01)


def test_conditions_and_components_have_their_own_noise():
    args = {"g": sx.PerSample(jnp.array([1e-3, 1.0]))}
    paths = sx.Trajectories(jnp.zeros((2, 2, 3)), [0.0, 1.0], args)
    noise = sx.Diffusion(lambda t, args: args["g"] * jnp.array([0.0, 1.0, 1.0]))
    x = blurred(paths, noise, KEY[0]).x
    assert np.abs(x[..., 0]).max() == 0
    assert 0 < np.abs(x[0]).max() < 0.01 < np.abs(x[1, :, 1:]).min()


def test_scales_come_from_blurred_states():
    net = sx.nn.Whitened(sx.nn.MLP(key=KEY[3]), sx.Perturbed(PATHS, g))
    at = lambda t: -1 / float(net.linear(t).rates)  # noqa: E731
    assert [at(0.0), at(1.0)] == pytest.approx([1 + BLUR, np.exp(-2) + BLUR], rel=0.03)


def test_a_share_for_validation_is_blurred_too():
    s = sx.Score(Slopes(jnp.ones(STEPS + 1)), g)
    how = {"key": KEY[0], "curriculum": [sx.Stage(updates=3, batch=8)], "validation": 0.1}
    seen = []
    sx.fit(-P + 2 * s, sx.Perturbed(PATHS, g), callback=lambda p: seen.append(p.validation), **how)  # pyright: ignore
    assert np.isfinite(seen).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sx.Perturbed(PATHS, 0.3), "needs the noise of a step"),  # pyright: ignore
        (lambda: sx.Perturbed(PATHS.x, g), "trajectories that know their times"),  # pyright: ignore
        (lambda: len(sx.Perturbed(sx.FreshPaths(P, X0, TS), g)), "not a number of trajectories: simulate some"),
    ],
    ids=["a number", "an array", "fresh"],
)
@pytest.mark.usefixtures("as_users_run")
def test_what_it_cannot_blur(make, says):
    with pytest.raises(TypeError, match=says):
        make()
