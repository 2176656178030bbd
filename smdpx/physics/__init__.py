"""Simulators: physics to put into a `Drift`, each with its equation, its units and its steps.

- `Heat`: the heat equation on a periodic square.
"""

from ._heat import Heat as Heat
