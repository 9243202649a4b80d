"""Figures of the README: each module compares side by side in one run and prints ratios."""
