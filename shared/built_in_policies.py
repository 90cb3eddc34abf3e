"""Rollout policies by name, for `rollout: {policy: staged}`. A key that stands beside the name replaces the policy's.

Only keys of one word: a policy may be given in camelCase and in snake_case, and these are the same in both.
"""

from typing import Any

BUILT_IN: dict[str, dict[str, Any]] = {
    # Canary, staging, production.
    "staged": {
        "steps": [
            {"weight": 5, "minDuration": "10m", "minRequests": 100},
            {"weight": 10, "minDuration": "30m", "minRequests": 300},
        ],
        "guardrails": [{"metric": "errors"}, {"metric": "latency", "sloSeconds": 10}],
        "deadline": "24h",
    },
}
