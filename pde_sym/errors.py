"""The errors that pde_sym raises for the person who reads them.

The command line prints the message on one line and exits with ``exit_code``;
every other exception is a defect of pde_sym and keeps its traceback.
"""


class PdeSymError(Exception):
    """An error whose message says what was expected, what came and what to do."""

    exit_code = 1


class InputError(PdeSymError, ValueError):
    """A value, a key or a file that the user gave cannot be used."""

    exit_code = 2


class OutputError(PdeSymError):
    """An output folder holds something else, is in use or cannot be written."""

    exit_code = 3


class DataError(PdeSymError):
    """A file is damaged or foreign, or holds numbers that are not finite."""

    exit_code = 4


class SimulationError(PdeSymError):
    """A solver or a surrogate left the finite numbers or missed its tolerance."""

    exit_code = 5
