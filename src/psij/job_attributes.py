"""How a job is to be run: walltime, queue, account, and attributes for a particular scheduler."""

from __future__ import annotations

from datetime import timedelta

from psij._log import lazy_logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Optional

logger = lazy_logger(__name__)

_DEFAULT_DURATION = timedelta(minutes=10)


class JobAttributes:
    """Describes how a job is to be run.

    Parameters
    ----------
    duration
        The walltime: the scheduler may end a job that runs longer.
    queue_name
        The queue (Slurm: partition) to submit the job to.
    account
        The account or project to charge.
    reservation_id
        A reservation of resources in which the job is to run.
    custom_attributes
        Attributes for a particular executor. Batch executors turn those that begin with their name and a dot,
        such as ``slurm.constraint`` or ``pbs.c``, into directives; others ignore them. The value True, or
        an empty string, stands for an option without a value.
    project_name
        Deprecated: use `account`, which it overrides.

    Raises
    ------
    typeguard.TypeCheckError
        If an argument has a wrong type.
    """

    __slots__ = (
        '__dict__',
        '__weakref__',
        '_custom_attributes',
        'account',
        'duration',
        'queue_name',
        'reservation_id',
    )

    def __init__(
        self,
        duration: timedelta = _DEFAULT_DURATION,
        queue_name: Optional[str] = None,
        account: Optional[str] = None,
        reservation_id: Optional[str] = None,
        custom_attributes: Optional[Dict[str, object]] = None,
        project_name: Optional[str] = None,
    ) -> None:
        if not (
            isinstance(duration, timedelta)
            and (queue_name is None or isinstance(queue_name, str))
            and (account is None or isinstance(account, str))
            and (reservation_id is None or isinstance(reservation_id, str))
            and (custom_attributes is None or _is_str_dict(custom_attributes))
            and (project_name is None or isinstance(project_name, str))
        ):
            _verify(duration, queue_name, account, reservation_id, custom_attributes, project_name)
        self.duration = duration
        self.queue_name = queue_name
        self.account = account
        self.reservation_id = reservation_id
        self._custom_attributes = custom_attributes
        if project_name is not None:
            self.project_name = project_name

    @property
    def custom_attributes(self) -> Optional[Dict[str, object]]:
        """The attributes for a particular executor, or None. The dictionary is not copied."""
        return self._custom_attributes

    @custom_attributes.setter
    def custom_attributes(self, attributes: Optional[Dict[str, object]]) -> None:
        self._custom_attributes = attributes

    def set_custom_attribute(self, name: str, value: object) -> None:
        """Set one custom attribute."""
        if self._custom_attributes is None:
            self._custom_attributes = {}
        self._custom_attributes[name] = value

    def get_custom_attribute(self, name: str) -> Optional[object]:
        """Return the value of one custom attribute, or None if there is no such attribute."""
        return None if self._custom_attributes is None else self._custom_attributes.get(name)

    @property
    def project_name(self) -> Optional[str]:
        """Deprecated, and the same as :attr:`account`."""
        return self.account

    @project_name.setter
    def project_name(self, project_name: Optional[str]) -> None:
        if project_name is not None:
            logger.warning('The "project_name" attribute is deprecated. Please use the "account" attribute instead.')
        self.account = project_name

    @staticmethod
    def parse_walltime(walltime: str) -> timedelta:
        """Parse a walltime.

        Parameters
        ----------
        walltime
            One of ``hh:mm:ss``, ``hh:mm``, ``mm``, or a number, which may have a fraction, followed by a unit:
            ``y`` (365 days), ``M`` (30 days), ``d``, ``h``, ``m``, ``s`` or ``ms``.

        Raises
        ------
        ValueError
            If the text has none of these forms.

        Examples
        --------
        >>> JobAttributes.parse_walltime('26:03:04')
        datetime.timedelta(days=1, seconds=7384)
        >>> JobAttributes.parse_walltime('1.5 h')
        datetime.timedelta(seconds=5400)
        """
        import re

        clock = re.fullmatch(r'(\d+)(?::(\d+)(?::(\d+))?)?', walltime, re.ASCII)
        quantity = re.fullmatch(r'(\d+(?:\.\d+)?|\.\d+)\s*(y|M|d|h|ms|m|s)', walltime, re.ASCII)
        try:
            if clock is not None:
                first, second, third = clock.groups()
                if second is None:
                    return timedelta(minutes=int(first))
                return timedelta(hours=int(first), minutes=int(second), seconds=int(third or 0))
            if quantity is not None:
                number, unit = quantity.groups()
                return _microseconds(number, _UNITS[unit])
        except OverflowError as ex:
            raise ValueError(f'The walltime {walltime!r} is too long.') from ex
        raise ValueError(
            f'Unknown walltime format: {walltime}. '
            r'Accepted formats are hh:mm:ss, hh:mm, mm, or n\s*[y|M|d|h|m|s|ms].'
        )

    def _key(self) -> tuple[object, ...]:
        return self.duration, self.queue_name, self.account, self.reservation_id, self._custom_attributes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobAttributes) and self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f'JobAttributes(duration={self.duration}, queue_name={self.queue_name}, account={self.account}, '
            f'reservation_id={self.reservation_id}, custom_attributes={self._custom_attributes})'
        )


_UNITS = {
    'y': 365 * 86_400_000_000,
    'M': 30 * 86_400_000_000,
    'd': 86_400_000_000,
    'h': 3_600_000_000,
    'm': 60_000_000,
    's': 1_000_000,
    'ms': 1_000,
}


def _microseconds(number: str, unit: int) -> timedelta:
    """Return `number` times `unit` microseconds exactly, where a float would lose digits.

    >>> _microseconds('3600.500001', 1_000_000)
    datetime.timedelta(seconds=3600, microseconds=500001)
    """
    whole, _, fraction = number.partition('.')
    parts = int(whole or 0) * unit
    if fraction:
        parts += (int(fraction) * unit + 10 ** len(fraction) // 2) // 10 ** len(fraction)
    return timedelta(microseconds=parts)


def as_duration(value: object) -> timedelta:
    """Return the duration that a program meant by a number or a text.

    A number is taken as minutes, which is what a walltime without unit means everywhere else
    (:meth:`JobAttributes.parse_walltime`, and the schedulers' own options). A text is a walltime, or what
    ``str()`` makes of a timedelta.

    Raises
    ------
    TypeError, ValueError
        If the value is no duration.

    Examples
    --------
    >>> as_duration(30), as_duration('1 day, 2:00:00.500000')
    (datetime.timedelta(seconds=1800), datetime.timedelta(days=1, seconds=7200, microseconds=500000))
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        import re

        printed = re.fullmatch(r'(?:(\d+) days?, )?(\d+:\d\d:\d\d)(?:\.(\d{6}))?', value, re.ASCII)
        if printed is None:
            return JobAttributes.parse_walltime(value)
        days, clock, microseconds = printed.groups()
        rest = timedelta(days=int(days or 0), microseconds=int(microseconds or 0))
        return rest + JobAttributes.parse_walltime(clock)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return timedelta(minutes=value)
        except OverflowError as ex:
            raise ValueError(f'{value!r} minutes are too long.') from ex
    raise TypeError(f'a duration must be a timedelta, a walltime or a number of minutes, not {value!r}')


def _is_str_dict(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _verify(
    duration: object,
    queue_name: object,
    account: object,
    reservation_id: object,
    custom_attributes: object,
    project_name: object,
) -> None:
    from typing import Dict, Optional

    from psij._checks import verify

    verify(
        duration=(duration, timedelta),
        queue_name=(queue_name, Optional[str]),
        account=(account, Optional[str]),
        reservation_id=(reservation_id, Optional[str]),
        custom_attributes=(custom_attributes, Optional[Dict[str, object]]),
        project_name=(project_name, Optional[str]),
    )
