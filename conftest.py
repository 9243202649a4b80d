"""Tests of the plugin run real pytest sessions."""

pytest_plugins = ["pytester"]
