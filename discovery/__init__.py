"""What people ask: search, dots, lineage, the HTTP API and the page."""
