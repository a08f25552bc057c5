"""Assays of molecules as tasks: files, draws, learners on fingerprints, and their rivals."""
