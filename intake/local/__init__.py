"""For `make up`: all processes on one machine, and sample dossiers of fictitious people. Not in the image."""
