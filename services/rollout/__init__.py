"""The rollout controller: canary steps, count e-processes on guardrails, promotion, rollback, the route table."""
