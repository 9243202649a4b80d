"""Deterministic synthetic data of the suite `guardrails_ru`."""
