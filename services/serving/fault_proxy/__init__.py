"""Faults on purpose in front of a model server that has no hook for them, as vLLM: for tests and the demo only.

    python -m services.serving.fault_proxy
"""
