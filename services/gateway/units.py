"""How many distinct units (users, sessions) each model version has served: exact, up to a bound on memory."""


class UnitCounter:
    """Sets of fingerprints per (route, model version), each begun anew with the route's salt.

    Args:
        limit: a set stops growing there, and its count stays at the limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sets: dict[tuple[str, str], tuple[str, set[int]]] = {}

    def add(self, route: str, label: str, salt: str, mark: int) -> int:
        """Count a unit by its fingerprint; the distinct units of this version under this salt."""
        seen = self._set(route, label, salt)
        if len(seen) < self._limit:
            seen.add(mark)
        return len(seen)

    def count(self, route: str, label: str, salt: str) -> int:
        """The distinct units so far; 0 under a new salt."""
        return len(self._set(route, label, salt))

    def keep_only(self, targets: set[tuple[str, str]]) -> None:
        """Free the sets of versions that no route has any more."""
        self._sets = {key: value for key, value in self._sets.items() if key in targets}

    def _set(self, route: str, label: str, salt: str) -> set[int]:
        entry = self._sets.get((route, label))
        if entry is None or entry[0] != salt:
            entry = (salt, set())
            self._sets[route, label] = entry
        return entry[1]
