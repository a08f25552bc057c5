"""Films and their viewers: ratings by user, what is known of films, and what services run."""
