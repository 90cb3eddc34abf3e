"""Serving: the agent that gives a model server its adapters, and a small model server for machines without vLLM."""
