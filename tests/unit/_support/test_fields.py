"""Fields of records by their names."""

from __future__ import annotations

from dq._support.fields import given_for, names_of, narrowed
from dq._support.frozen import frozen


@frozen
class Wide:
    max_size: int
    initializer: str = ""
    only_here: int = 0


@frozen
class Narrow:
    max_size: int = 1
    elsewhere: str = "default"


def test_the_names_are_in_the_order_of_the_fields() -> None:
    assert names_of(Wide) == ("max_size", "initializer", "only_here")


def test_a_record_takes_from_another_the_fields_that_both_have() -> None:
    assert narrowed(Narrow, Wide(max_size=7)) == Narrow(max_size=7)


def test_what_a_command_was_given_is_found_under_the_names_of_its_options() -> None:
    given = {"max_size": 3, "init": "app:begin", "quiet": True}
    assert given_for(given, Wide) == {"max_size": 3, "initializer": "app:begin"}


def test_an_option_that_a_command_lacks_leaves_its_field_to_the_default() -> None:
    assert Narrow(**given_for({"quiet": True}, Narrow)) == Narrow()
