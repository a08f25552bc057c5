"""Experiments: one file a claim. They use jaxmeta's public face alone."""
