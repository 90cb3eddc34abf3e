"""Adapters that PEFT cannot train, or cannot serve beside others in one batch. Imports torch."""
