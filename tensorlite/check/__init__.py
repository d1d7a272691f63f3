"""Gradient checking."""
