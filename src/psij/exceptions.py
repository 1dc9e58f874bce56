"""The exceptions of the library.

::

    Exception
    ├── InvalidJobException          the job is wrong: change it, then submit it again
    │   └── InvalidEnvironmentError  (also a TypeError) a wrong type in JobSpec.environment
    ├── SubmitException              the job is fine, the submission failed; `transient` says whether to try again
    └── UnreachableStateException    never raised here; kept so that older programs can name it

Arguments of the wrong type given to a constructor raise :class:`typeguard.TypeCheckError`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from psij.job_status import JobStatus


class InvalidJobException(Exception):
    """A problem with the specification of a job.

    Parameters
    ----------
    message
        A description that can be shown to an end user.
    exception
        The underlying exception, if any.
    """

    def __init__(self, message: str, exception: Optional[Exception] = None) -> None:
        #: A description of the problem that can be shown to an end user.
        self.message = message
        #: The underlying exception, if any, for debugging; not meant for an end user.
        self.exception = exception
        self.args = self.args or (message,)  # for pickling, if the message was given by keyword

    def __str__(self) -> str:
        return str(self.message)


class InvalidEnvironmentError(InvalidJobException, TypeError):
    """A name or a value in :attr:`.JobSpec.environment` has a type that cannot be used.

    It is a :class:`TypeError` too, because that is what programs written for earlier versions catch.
    """


class SubmitException(Exception):
    """A submission failed: the scheduler refused the job, or something around it went wrong.

    Parameters
    ----------
    message
        A description that can be shown to an end user.
    exception
        The underlying exception, if any.
    transient
        Whether the same submission may succeed later.
    """

    def __init__(self, message: str, exception: Optional[Exception] = None, transient: bool = False) -> None:
        #: A description of the problem that can be shown to an end user.
        self.message = message
        #: The underlying exception, if any, for debugging; not meant for an end user.
        self.exception = exception
        #: True if the condition is likely to pass (a server that cannot be reached, a queue that is full),
        #: so that trying again later makes sense.
        self.transient = transient
        self.args = self.args or (message,)  # for pickling, if the message was given by keyword

    def __str__(self) -> str:
        return str(self.message)


class UnreachableStateException(Exception):
    """Raised by early versions when a job could no longer reach a state that was waited for.

    :meth:`.Job.wait` returns the final status instead; the class is kept for programs that name it in an
    ``except`` clause.

    Parameters
    ----------
    status
        The status of the job that was waited for.
    """

    def __init__(self, status: JobStatus) -> None:
        super().__init__(status)
        #: The status of the job that was waited for.
        self.status = status
