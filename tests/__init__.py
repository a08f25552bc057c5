"""Tests, in folders like the package; what several of them share lies on top."""
