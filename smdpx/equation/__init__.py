"""The algebra: drifts, noise, coefficients and stiff linear parts; what may be added to what."""
