"""The executors and launchers that come with the library.

They stand here, and not among the entry points of the distribution, so that they are found without reading the
metadata of installed packages (which takes longer than starting Python) and when the library is used straight
from a source tree. Plugins register with entry points; see ``docs/plugins``.
"""

from __future__ import annotations

from psij.descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def executors() -> Iterable[Descriptor]:
    """Return what describes the executors of the library."""
    from packaging.version import Version

    current, first = Version('0.2.0'), Version('0.0.1')
    batch = 'psij.executors.batch'
    return (
        Descriptor('local', current, 'psij.executors.local.LocalJobExecutor', nice_name='Local'),
        Descriptor('slurm', current, f'{batch}.slurm.SlurmJobExecutor', nice_name='Slurm'),
        Descriptor('pbs', current, f'{batch}.pbs.PBSJobExecutor', ['pbspro'], 'PBS Pro'),
        Descriptor('pbs_classic', current, f'{batch}.pbs_classic.PBSClassicJobExecutor', ['torque'], 'PBS Classic'),
        Descriptor('lsf', current, f'{batch}.lsf.LsfJobExecutor', nice_name='LSF'),
        Descriptor('cobalt', current, f'{batch}.cobalt.CobaltJobExecutor', nice_name='Cobalt'),
        Descriptor('nqsv', first, f'{batch}.nqsv.NQSVJobExecutor', nice_name='nqsv'),
        Descriptor('flux', first, 'psij.executors.flux.FluxJobExecutor', nice_name='Flux'),
        Descriptor('rp', first, 'psij.executors.rp.RPJobExecutor', nice_name='Radical Pilot'),
    )


def launchers() -> Iterable[Descriptor]:
    """Return what describes the launchers of the library."""
    from packaging.version import Version

    current, first = Version('0.2.0'), Version('0.0.1')
    return (
        Descriptor('single', current, 'psij.launchers.single.SingleLauncher'),
        Descriptor('multiple', current, 'psij.launchers.multiple.MultipleLauncher'),
        Descriptor('mpirun', current, 'psij.launchers.mpirun.MPILauncher'),
        Descriptor('srun', first, 'psij.launchers.srun.SrunLauncher'),
        Descriptor('aprun', first, 'psij.launchers.aprun.AprunLauncher'),
        Descriptor('jsrun', first, 'psij.launchers.jsrun.JsrunLauncher', ['jrun']),
    )
