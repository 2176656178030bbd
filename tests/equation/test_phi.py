"""The φ-functions of exponential integrators, against their series."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smdpx.equation._phi import phi1, phi2
from tests._problems import double_precision


@pytest.mark.parametrize(("phi", "order"), [(phi1, 1), (phi2, 2)])
def test_the_functions_phi_and_their_slopes_are_right_at_and_near_zero(phi, order):
    # φₖ(z) = Σ zⁿ/(n+k)!, at 0 and on both sides of where the series ends.
    z = np.array([-1.0, -0.51, -0.49, -1.01e-2, -0.99e-2, -1e-9, 0.0, 1e-9, 0.99e-2, 1.01e-2, 0.49, 0.51, 1.0])
    n = np.arange(24)
    factorials = np.cumprod(np.concatenate([[1.0], np.arange(1.0, 30)]))[n + order]
    values = np.sum(z[:, None] ** n / factorials, axis=1)
    slopes = np.sum(n[1:] * z[:, None] ** (n[1:] - 1) / factorials[1:], axis=1)
    with double_precision():
        got = jax.jit(jax.vmap(jax.value_and_grad(phi)))(jnp.asarray(z))
    np.testing.assert_allclose(got[0], values, rtol=2e-15)
    np.testing.assert_allclose(got[1], slopes, rtol=1e-13)
    single = jax.jit(jax.vmap(jax.value_and_grad(phi)))(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(single, got, rtol=5e-5)


@pytest.mark.parametrize(("phi", "value"), [(phi1, 1e-9), (phi2, 1e-9)])
def test_the_functions_phi_and_their_slopes_are_finite_far_from_zero(phi, value):
    # φ₁ → -1/z and φ₂ → -1/z, in single precision, where a series in z overflows.
    z = jnp.asarray(-1e9, jnp.float32)
    np.testing.assert_allclose(jax.jit(jax.value_and_grad(phi))(z), [value, value**2], rtol=1e-6)
