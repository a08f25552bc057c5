"""Throughput, against hand-written code and other libraries."""
