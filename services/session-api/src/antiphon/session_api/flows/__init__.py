"""Flows: known from the watched bucket, checked by agent workers, published as revisions, compared."""
