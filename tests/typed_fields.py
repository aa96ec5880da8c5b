"""Fields of every rank, that the tests of networks share."""

from pde_sym.fields import Field, FieldSpec, Rank


def vector(name: str) -> Field:
    """Return a vector field of the plane."""
    return Field(name=name, rank=Rank.VECTOR, components=2)


def pseudoscalar(name: str) -> Field:
    return Field(name=name, rank=Rank.PSEUDOSCALAR)


def tensor(name: str) -> Field:
    return Field(name=name, rank=Rank.TENSOR, components=4)


MIXED = FieldSpec.of(Field(name="u"), vector("v"), pseudoscalar("w"))
"""A scalar, a vector and a pseudoscalar."""
TENSOR = FieldSpec.of(tensor("t"))
FLOW = FieldSpec.of(vector("velocity"), pseudoscalar("vorticity"), Field(name="tracer"))
"""A flow as its data hold it."""
