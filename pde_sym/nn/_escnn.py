"""The one place that imports escnn, without its note on an optional dependency."""

import warnings

with warnings.catch_warnings():
    # py3nj speeds up SO(3) coefficients, which the plane does not need.
    warnings.filterwarnings("ignore", message="`py3nj` package not found")
    from escnn import gspaces
    from escnn.group import Representation, directsum
    from escnn.gspaces import GSpace
    from escnn.nn import FieldType, R2Conv

__all__ = ["FieldType", "GSpace", "R2Conv", "Representation", "directsum", "gspaces"]
