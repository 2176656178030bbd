"""Score networks: Equinox modules called per sample as ``net(t, x, args)``, shaped like x."""

from ..equation._fixed import Fixed as Fixed
from ._arrays import load_arrays as load_arrays, save_arrays as save_arrays
from ._dil_resnet import DilResNet as DilResNet
from ._fno import FNO as FNO
from ._fourier import FourierFilter as FourierFilter
from ._grid import Grid as Grid
from ._mlp import MLP as MLP
from ._resnet import ResNet as ResNet
from ._tiled import Tiled as Tiled
from ._unet import UNet as UNet
from ._whitened import Whitened as Whitened
