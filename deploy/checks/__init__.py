"""What `make verify-deploy` checks; each check is a function that returns the problems it found."""
