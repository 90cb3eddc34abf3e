"""Which units (users, sessions) each model version has served: exact, up to a bound on memory."""


class UnitCounter:
    """Sets of fingerprints per (route, model version), each begun anew with the route's salt.

    Args:
        limit: where a route's sets have so many in all, they stop growing, and all counts stay. All at once, because
            versions whose counts stop at different times would seem to get other shares than they do.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._routes: dict[str, tuple[str, dict[str, set[int]]]] = {}

    def add(self, route: str, label: str, salt: str, mark: int) -> tuple[int, bool]:
        """Count a unit by its fingerprint.

        Returns:
            The distinct units of this version under this salt, and whether this one is new to it.
        """
        sets = self._sets(route, salt)
        seen = sets.setdefault(label, set())
        if mark in seen or sum(map(len, sets.values())) >= self._limit:
            return len(seen), False
        seen.add(mark)
        return len(seen), True

    def count(self, route: str, label: str, salt: str) -> int:
        """The distinct units so far; 0 under a new salt."""
        return len(self._sets(route, salt).get(label, ()))

    def keep_only(self, targets: set[tuple[str, str]]) -> None:
        """Free the sets of versions that no route has any more."""
        self._routes = {
            route: (salt, {label: seen for label, seen in sets.items() if (route, label) in targets})
            for route, (salt, sets) in self._routes.items() if any(route == name for name, _ in targets)
        }

    def _sets(self, route: str, salt: str) -> dict[str, set[int]]:
        entry = self._routes.get(route)
        if entry is None or entry[0] != salt:
            entry = (salt, {})
            self._routes[route] = entry
        return entry[1]
