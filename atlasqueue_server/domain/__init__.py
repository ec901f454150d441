"""The rules, one verb a file. Knows no transport and no SQL."""
