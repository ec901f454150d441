"""REST, metrics and health over HTTP: transcodes to the handlers of the rpc floor."""
