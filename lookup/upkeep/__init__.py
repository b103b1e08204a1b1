"""What a lookup process does besides answering: its pulse, service status, reports for people."""
