"""The named tuples of the device's path: what collections.namedtuple makes, with fewer bytes."""

import copy
import pickle
from collections import namedtuple

import pytest

from oomguard.typed import NamedTuple


class Point(NamedTuple):
    """A place."""

    x: float
    y: float = 2.0
    name: str = "here"

    @property
    def sum(self):
        """Both together."""
        return self.x + self.y


Theirs = namedtuple("Point", ["x", "y", "name"], defaults=[2.0, "here"])


@pytest.mark.parametrize("ask", [
    repr, tuple, hash, lambda one: one._asdict(), lambda one: one._replace(y=7), lambda one: one._fields,
    lambda one: one._field_defaults, lambda one: type(one).__match_args__, lambda one: type(one)._make("abc"),
    lambda one: (one.x, one.y, one.name), lambda one: one < (1.0, 3.0), lambda one: hasattr(one, "__dict__"),
])
def test_it_is_as_a_named_tuple(ask):
    """Whatever is asked of a record, the standard library's answers the same."""
    assert ask(Point(1.0)) == ask(Theirs(1.0))


@pytest.mark.parametrize("wrong", [
    lambda kind: kind(), lambda kind: kind(1, 2, 3, 4), lambda kind: kind(1, z=3), lambda kind: kind._make("ab"),
    lambda kind: kind(1)._replace(z=3)])
def test_it_refuses_what_a_named_tuple_refuses(wrong):
    """Too few, too many and unknown fields end in the same kind of error."""
    with pytest.raises((TypeError, ValueError)) as theirs:
        wrong(Theirs)
    with pytest.raises(theirs.type):
        wrong(Point)


def test_a_field_without_a_default_comes_first():
    """A default that another field follows without one is an error of whoever wrote the class."""
    with pytest.raises(TypeError, match="Odd"):
        type(NamedTuple)("Odd", (NamedTuple,), {"__annotations__": {"a": int, "b": int}, "a": 1})


def test_what_else_the_body_holds_is_kept():
    """Methods, properties, the doc string and where it was written are the class' own."""
    assert (Point(1.0).sum, Point.__doc__, Point.__module__, Point.__qualname__) == (3.0, "A place.", __name__, "Point")


def test_it_is_copied_and_pickled():
    """A copy is another of the same kind, and so is what comes out of a pickle."""
    one = Point(1.0, name="there")
    for other in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (type(other), other) == (Point, one)




def test_it_is_matched_by_place():
    """A class pattern takes the fields in their order."""
    match Point(1.0):
        case Point(x, y):
            assert (x, y) == (1.0, 2.0)
