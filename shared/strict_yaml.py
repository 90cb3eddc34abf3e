"""YAML as people mean it: a key such as ``on`` is a word, and a key that stands twice is a mistake.

PyYAML follows YAML 1.1, where ``on``, ``off``, ``yes`` and ``no`` are booleans and of two equal keys the last one
wins. YAML 1.2 dropped the former and forbids the latter.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_BOOLEAN = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's booleans and without silent duplicates."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way to configure a loader
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOLEAN]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                problem = f"the key {key_node.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_BOOLEAN, re.compile("^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load_yaml(text: str) -> Any:
    """The value of one YAML document.

    Raises:
        yaml.YAMLError: with the place, where it is not valid.
        ValueError: for a value that cannot be, such as the 31st of February.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - the loader is a SafeLoader
