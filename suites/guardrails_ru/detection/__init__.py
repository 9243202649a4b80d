"""The pieces of the in-process PII detector: one module for each way of finding a span."""
