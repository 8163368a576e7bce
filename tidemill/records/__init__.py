"""What passes between steps: receipts, tables and their schemas, WARC, archives."""
