"""Forced turbulence whose dynamics nobody gives (arXiv:2301.10250, §4.4)."""
