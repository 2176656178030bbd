"""Data: Gaussian random fields, other grids, one scale for states of any unit, and HDF5 files.

- Initial states: `gaussian_random_fields`.
- Units: `Normalisation`.
- Grids: `resample`, by the Fourier series.
- Files: `save_hdf5` and `load_hdf5` for named arrays, `load_hdf5_samples` for files with one dataset a sample.

The files need h5py: ``pip install "smdpx[data]"``.
"""

from ._fields import Normalisation as Normalisation, gaussian_random_fields as gaussian_random_fields
from ._hdf5 import (
    load_hdf5 as load_hdf5,
    load_hdf5_samples as load_hdf5_samples,
    save_hdf5 as save_hdf5,
)
from ._resample import resample as resample
