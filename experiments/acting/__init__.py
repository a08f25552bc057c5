"""Learners that act: rival policies, and pictures of what was done."""
