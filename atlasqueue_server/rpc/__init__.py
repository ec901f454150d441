"""Proto in, one domain verb, proto out. The only floor that imports grpc."""
