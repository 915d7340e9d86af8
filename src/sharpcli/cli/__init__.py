"""The command line: it runs a command, prints its results and returns an exit code."""
