"""The former name of :mod:`psij.job_launcher`."""

from psij.job_launcher import Launcher

__all__ = ['Launcher']
