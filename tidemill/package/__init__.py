"""The model package: its digest, allowed files, signature, golden answers and latency."""
