"""Learners whose `w` is sparse, on frozen embeddings."""
