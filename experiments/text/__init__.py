"""Sentences as frozen embeddings: data sets of intents, and what practitioners run on them."""
