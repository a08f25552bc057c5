"""Regression of sinusoids."""
