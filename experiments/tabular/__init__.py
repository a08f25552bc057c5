"""Small tables: data, baselines and summaries."""
