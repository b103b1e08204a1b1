"""What leaves over HTTP: JSON and pages, and the early way that answers before routing."""
