"""The launchers that come with the library."""

from psij.launchers.aprun import AprunLauncher
from psij.launchers.jsrun import JsrunLauncher
from psij.launchers.mpirun import MPILauncher
from psij.launchers.multiple import MultipleLauncher
from psij.launchers.single import SingleLauncher
from psij.launchers.srun import SrunLauncher

__all__ = [
    'AprunLauncher',
    'JsrunLauncher',
    'MPILauncher',
    'MultipleLauncher',
    'SingleLauncher',
    'SrunLauncher',
]
