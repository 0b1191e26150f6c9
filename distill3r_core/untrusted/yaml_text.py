"""Read YAML from a file of bounded size, whatever its anchors expand to."""

from collections.abc import Mapping
from typing import Any

import yaml

_LONGEST = 1 << 20  # characters of a file
_LONGEST_KEY = 200  # characters
_DEEPEST = 100  # brackets in brackets
_MAX_NODES = 100_000  # with every alias written out


class _ShallowLoader(yaml.SafeLoader):
    """Ends at brackets in brackets, to each of which the scanner goes back with every other."""

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:
        if self.flow_level >= _DEEPEST:
            raise ValueError("it is nested too deeply")
        super().fetch_flow_collection_start(TokenClass)


def read_yaml(text: str) -> Any:
    """The plain data of a YAML document.

    Raises:
        yaml.YAMLError: It is not YAML.
        ValueError: It is too long or too deep, contains itself, or is too large with its aliases
            written out.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it has {len(text)} characters, more than {_LONGEST}")
    try:
        # Before values are built: merge keys copy what they refer to.
        _count_nodes(yaml.compose(text, Loader=_ShallowLoader), {})
        return yaml.load(text, Loader=_ShallowLoader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _count_nodes(node: yaml.Node | None, counted: dict[int, int | None]) -> int:
    """Nodes of a tree in which aliases are written out."""
    if node is None:
        return 0
    if id(node) in counted:
        known = counted[id(node)]
        if known is None:
            raise ValueError("it contains itself")
        return known
    counted[id(node)] = None
    total = 1
    if isinstance(node, yaml.SequenceNode):
        total += sum(_count_nodes(child, counted) for child in node.value)
    elif isinstance(node, yaml.MappingNode):
        total += sum(_count_nodes(child, counted) for pair in node.value for child in pair)
    if total > _MAX_NODES:
        raise ValueError(f"its aliases expand to more than {_MAX_NODES:,} values")
    counted[id(node)] = total
    return total


def odd_key(values: Mapping[Any, Any]) -> str | None:
    """A key that is no text, or a very long one; None where there is none."""
    for key, value in values.items():
        if not isinstance(key, str) or len(key) > _LONGEST_KEY:
            return str(key)
        if isinstance(value, dict) and (found := odd_key(value)) is not None:
            return found
    return None
