"""The command line: one command a file, everything heavy imported when its command runs."""
