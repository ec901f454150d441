"""The commands, one module a theme. Signatures and help; what a command needs is imported when it runs."""
