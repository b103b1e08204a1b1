"""What a process says of itself: logs without personal data, metrics, traces."""
