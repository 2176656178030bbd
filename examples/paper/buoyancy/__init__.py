"""Buoyancy-driven flow with obstacles (arXiv:2301.10250, §4.3)."""
