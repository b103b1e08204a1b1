"""The lookup over HTTP: JSON, pages, and early answers before routing."""
