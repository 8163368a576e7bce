"""Normal forms of text, shingles, signatures and duplicates."""
