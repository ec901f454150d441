"""Load for trying a deployment: handlers for workers, and a program that enqueues for them."""
