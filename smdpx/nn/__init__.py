"""Score networks: Equinox modules called per sample as ``net(t, x, args)``, shaped like x."""

from ._grid import Grid as Grid
from ._mlp import MLP as MLP
