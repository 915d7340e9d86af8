"""The command line: words in, one answer and an exit code out."""
