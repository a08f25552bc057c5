"""What `accelerator` runs: the stages, each a list of items in order of worth, and the report."""
