"""May a schema replace another under the same event type? Pure; the generator and the tests ask it.

A consumer of yesterday must read an event of today, and a consumer of today an event of last year that is still in
the log. So under one type a field may be added with a default, and nothing else may change: not removed, not newly
required, not retyped. Anything else is a new type (``.v2``).
"""

from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]
_SHAPE = ("type", "format", "enum", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """Every reason why `new` must not replace `old`, each with the path of the field; empty if it may."""
    return _Comparison(old, new).compare(old, new, "")


@dataclass
class _Comparison:
    """One walk through two schemas side by side; `seen` ends it where definitions refer to themselves."""

    old_root: Schema
    new_root: Schema
    seen: set[str] = field(default_factory=set)

    def compare(self, old: Schema, new: Schema, path: str) -> list[str]:
        visit = f"{path}:{old.get('$ref')}"
        if "$ref" in old and visit in self.seen:
            return []
        self.seen.add(visit)
        old, new = _resolve(old, self.old_root), _resolve(new, self.new_root)
        where = path or "the payload"
        return [
            *(f"{where}: {key} was {old.get(key)!r} and is {new.get(key)!r}"
              for key in _SHAPE if not _may_become(key, old.get(key), new.get(key))),
            *self._properties(old, new, path),
            *self._elements(old, new, path),
            *self._alternatives(old, new, path),
        ]

    def _properties(self, old: Schema, new: Schema, path: str) -> list[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        at = {name: f"{path}.{name}".lstrip(".") for name in {*before, *after}}
        problems = [f"{at[name]}: removed" for name in before if name not in after]
        required = set(new.get("required", [])) - set(old.get("required", []))
        problems += [f"{at[name]}: newly required" for name in sorted(required)]
        for name in before.keys() & after.keys():
            problems += self.compare(before[name], after[name], at[name])
        return problems

    def _elements(self, old: Schema, new: Schema, path: str) -> list[str]:
        problems: list[str] = []
        for key in ("items", "additionalProperties"):
            before, after = old.get(key), new.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                problems += self.compare(before, after, f"{path}[]")
            elif isinstance(before, dict):
                problems.append(f"{path or 'the payload'}: {key} is gone")
        return problems

    def _alternatives(self, old: Schema, new: Schema, path: str) -> list[str]:
        before, after = old.get("anyOf", []), new.get("anyOf", [])
        if len(after) < len(before):
            return [f"{path or 'the payload'}: fewer alternatives"]
        return [problem for a, b in zip(before, after, strict=False) for problem in self.compare(a, b, path)]


def _resolve(schema: Schema, root: Schema) -> Schema:
    """What a schema refers to, with its one allowed value, if it has that, as a list of one."""
    target: Any = schema
    if "$ref" in schema:
        target = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target[part]
    return {**target, "enum": [target["const"]]} if "const" in target else dict(target)


def _may_become(key: str, old: object, new: object) -> bool:
    """Whether a constraint may change so; only a list of allowed values may grow."""
    if key == "enum" and isinstance(old, list) and isinstance(new, list):
        return set(old) <= set(new)
    return old == new
