"""For `make up` only: the processes on one machine and fictitious people; not in the image."""
